#include "search/exact_index.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "search/dot.h"
#include "tandem/error.h"

namespace tandem::search {
namespace {

std::vector<float> unit_rows(std::size_t rows, std::size_t dim, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(rows * dim);
  for (std::size_t r = 0; r < rows; ++r) {
    double norm = 0;
    for (std::size_t i = 0; i < dim; ++i) {
      values[r * dim + i] = normal(random);
      norm += static_cast<double>(values[r * dim + i]) * values[r * dim + i];
    }
    for (std::size_t i = 0; i < dim; ++i) values[r * dim + i] /= static_cast<float>(std::sqrt(norm));
  }
  return values;
}

double exact_dot(const float* a, const float* b, std::size_t dim) {
  double sum = 0;
  for (std::size_t i = 0; i < dim; ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

class ExactIndexTest : public testing::TestWithParam<std::size_t> {};

TEST_P(ExactIndexTest, FindsWhatAFullSortInDoubleFinds) {
  const std::size_t dim = GetParam(), rows = 3001, k = 17;
  const auto values = unit_rows(rows, dim, 1);
  ExactIndex index(dim);
  index.add(std::span(values).first(1000 * dim));
  index.add(std::span(values).subspan(1000 * dim));
  ASSERT_EQ(index.size(), rows);
  const auto queries = unit_rows(3, dim, 2);
  const auto found = index.search_many(queries, k);
  ASSERT_EQ(found.size(), 3U);
  for (std::size_t q = 0; q < 3; ++q) {
    std::vector<double> scores(rows);
    for (std::size_t r = 0; r < rows; ++r) scores[r] = exact_dot(&queries[q * dim], &values[r * dim], dim);
    std::vector<double> sorted = scores;
    std::sort(sorted.rbegin(), sorted.rend());
    ASSERT_EQ(found[q].size(), k);
    for (std::size_t i = 0; i < k; ++i) {
      EXPECT_NEAR(found[q][i].score, scores[found[q][i].row], 2e-6);
      EXPECT_NEAR(found[q][i].score, sorted[i], 2e-6);
    }
    EXPECT_EQ(index.search(std::span(queries).subspan(q * dim, dim), k), found[q]);
  }
}

INSTANTIATE_TEST_SUITE_P(Dims, ExactIndexTest, testing::Values(1, 7, 16, 129, 512, 20000));

TEST(ExactIndex, EqualScoresComeInTheOrderTheyWereAdded) {
  const auto one = unit_rows(1, 64, 3);
  ExactIndex index(64);
  for (int i = 0; i < 1000; ++i) index.add(one);
  const auto hits = index.search(one, 400);
  for (std::size_t i = 0; i < hits.size(); ++i) {
    EXPECT_EQ(hits[i].row, i);
    EXPECT_EQ(hits[i].score, hits[0].score);
  }
}

TEST(ExactIndex, SmallAndEmptyIndexes) {
  ExactIndex index(3);
  const std::vector<float> query = {1, 0, 0};
  EXPECT_TRUE(index.search(query, 5).empty());
  index.add(std::vector<float>{0, 1, 0, 1, 0, 0});
  EXPECT_EQ(index.search(query, 5), (std::vector<Hit>{{1, 1.0F}, {0, 0.0F}}));
  EXPECT_TRUE(index.search(query, 0).empty());
  EXPECT_TRUE(index.search_many({}, 3).empty());
}

TEST(ExactIndex, RefusesWhatItCannotCompare) {
  EXPECT_THROW(ExactIndex(0), Error);
  ExactIndex index(3);
  EXPECT_THROW(index.add(std::vector<float>{1, 2}), Error);
  EXPECT_THROW(index.add(std::vector<float>{1, std::numeric_limits<float>::quiet_NaN(), 0}), Error);
  EXPECT_EQ(index.size(), 0U);
  EXPECT_THROW(index.search(std::vector<float>{1, 2}, 1), Error);
  EXPECT_THROW(index.search(std::vector<float>{1, 2, std::numeric_limits<float>::infinity()}, 1), Error);
}

TEST(DotRows, ChosenKernelAgreesWithThePortableOne) {
  const std::size_t dim = 515, rows = 40;
  const auto values = unit_rows(rows, dim, 5), query = unit_rows(1, dim, 6);
  std::vector<float> fast(rows), slow(rows);
  choose_dot_rows()(query.data(), values.data(), rows, dim, fast.data());
  dot_rows_portable(query.data(), values.data(), rows, dim, slow.data());
  for (std::size_t r = 0; r < rows; ++r) EXPECT_NEAR(fast[r], slow[r], 1e-6);
}

}  // namespace
}  // namespace tandem::search
