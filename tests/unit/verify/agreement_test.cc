#include "verify/agreement.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "tandem/error.h"

namespace tandem::verify {
namespace {

TEST(Closeness, ByHand) {
  const std::vector<float> want{1, 0, 0, 1, 1, 0}, got{1, 0, 0.6F, 0.8F, -1, 0};
  const Closeness c = closeness(got, want, 2);
  EXPECT_EQ(c.items, 3U);
  EXPECT_NEAR(c.mean_cosine, (1 + 0.8 - 1) / 3, 1e-7);
  EXPECT_NEAR(c.min_cosine, -1, 1e-12);
  EXPECT_EQ(c.worst, 2U);
  EXPECT_NEAR(c.max_difference, 2, 1e-7);
}

TEST(Closeness, FirstPercentileIsTheHundredthOfManyRows) {
  std::vector<float> want, got;
  for (int i = 0; i < 200; ++i) {  // cosines cos(i / 200), the worst ones last
    want.insert(want.end(), {1, 0});
    got.insert(got.end(), {static_cast<float>(std::cos(i / 200.0)), static_cast<float>(std::sin(i / 200.0))});
  }
  const Closeness c = closeness(got, want, 2);
  EXPECT_NEAR(c.min_cosine, std::cos(199 / 200.0), 1e-6);
  EXPECT_NEAR(c.p01_cosine, std::cos(198 / 200.0), 1e-6);
}

TEST(Closeness, RefusesWhatCannotBeCompared) {
  const std::vector<float> three{1, 0, 0}, two{1, 0}, zero{0, 0}, nan{NAN, 0};
  EXPECT_THROW(closeness(three, three, 2), Error);
  EXPECT_THROW(closeness(two, {}, 2), Error);
  EXPECT_THROW(closeness(zero, two, 2), Error);
  EXPECT_THROW(closeness(nan, two, 2), Error);
  EXPECT_EQ(closeness({}, {}, 2).items, 0U);
}

double slow_tau(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0, pairs_a = 0, pairs_b = 0;
  const auto sign = [](float x, float y) { return x < y ? -1 : x > y ? 1 : 0; };
  for (std::size_t i = 0; i < a.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      const int of_a = sign(a[i], a[j]), of_b = sign(b[i], b[j]);
      sum += of_a * of_b, pairs_a += of_a * of_a, pairs_b += of_b * of_b;
    }
  }
  return sum / std::sqrt(pairs_a * pairs_b);
}

TEST(Kendall, EqualsTheDefinition) {
  std::mt19937 random(3);
  for (const std::size_t n : {2U, 3U, 7U, 64U, 150U}) {
    for (const unsigned values : {3U, 10U, 1000000U}) {  // few values: many ties
      std::vector<float> a(n), b(n);
      for (auto& v : a) v = static_cast<float>(random() % values);
      for (std::size_t i = 0; i < n; ++i) b[i] = i % 3 == 0 ? a[i] : static_cast<float>(random() % values);
      a[0] = -1, b[1] = -1;  // neither is all ties
      EXPECT_NEAR(kendall_tau(a, b), slow_tau(a, b), 1e-12) << n << " of " << values;
    }
  }
}

TEST(Kendall, Ends) {
  const std::vector<float> up{1, 2, 3, 4}, down{4, 3, 2, 1}, flat{5, 5, 5, 5};
  EXPECT_EQ(kendall_tau(up, up), 1);
  EXPECT_EQ(kendall_tau(up, down), -1);
  EXPECT_EQ(kendall_tau(up, flat), 0);
  EXPECT_EQ(kendall_tau(flat, flat), 1);
  EXPECT_EQ(kendall_tau({}, {}), 1);
}

TEST(TopOverlap, CountsTheBest) {
  const std::vector<float> a{9, 8, 7, 1, 0}, b{9, 0, 7, 8, 1};
  EXPECT_EQ(top_overlap(a, b, 1), 1);
  EXPECT_EQ(top_overlap(a, b, 2), 0.5);
  EXPECT_NEAR(top_overlap(a, b, 3), 2.0 / 3, 1e-12);
  EXPECT_EQ(top_overlap(a, b, 10), 1);
}

TEST(RankAgreement, QueriesThatFindTheOppositeAndThemselves) {
  const std::vector<float> items{1, 0, 0.8F, 0.6F, 0, 1};
  const std::vector<float> right{1, 0}, left{0, 1};
  const RankAgreement all = rank_agreement({right, right}, {items, items}, 2, false);
  EXPECT_EQ(all.kendall, 1);
  EXPECT_EQ(all.queries, 1U);
  EXPECT_EQ(rank_agreement({left, right}, {items, items}, 2, false).kendall, -1);
  // Among themselves nobody is compared with itself: two others each, in the same order.
  const RankAgreement same = rank_agreement({items, items}, {items, items}, 2, true);
  EXPECT_EQ(same.queries, 3U);
  EXPECT_EQ(same.kendall, 1);
  EXPECT_EQ(rank_agreement({right, right}, {right, right}, 2, false).queries, 0U);  // one item has no order
}

TEST(ZeroShot, RightAmongFiveAndUnknown) {
  std::vector<float> labels;  // eight directions of a half circle
  for (int i = 0; i < 8; ++i) {
    labels.insert(labels.end(), {static_cast<float>(std::cos(i * 0.4)), static_cast<float>(std::sin(i * 0.4))});
  }
  const std::vector<float> images{1, 0, 1, 0, 1, 0, 1, 0};
  const std::vector<std::vector<std::size_t>> accepted{{0}, {4, 7}, {5}, {}};
  const ZeroShot z = zero_shot(images, labels, 2, accepted);
  EXPECT_EQ(z.labelled, 3U);
  EXPECT_NEAR(z.top1, 1.0 / 3, 1e-12);
  EXPECT_NEAR(z.top5, 2.0 / 3, 1e-12);
  EXPECT_EQ(z.right, (std::vector<bool>{true, false, false, false}));
}

}  // namespace
}  // namespace tandem::verify
