#include "server/labels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <deque>

#include "tandem/zero_shot.h"

namespace tandem::server {
namespace {

/// An engine that answers when it is told to: a text's vector is (length, 1), to unit length.
struct HeldEngine {
  std::deque<std::pair<Request, OnDone>> held;
  std::size_t texts = 0, largest = 0;
  bool full = false;

  Submit submit() {
    return [this](Request request, OnDone on_done) {
      if (full) throw Error(Code::overloaded, "full");
      texts += request.texts.size();
      largest = std::max(largest, request.texts.size());
      held.emplace_back(std::move(request), std::move(on_done));
    };
  }

  static Embedding vector_of(const std::string& text) {
    Embedding one;
    const float length = static_cast<float>(text.size());
    const float norm = std::sqrt(length * length + 1);
    one.values = {length / norm, 1 / norm};
    if (text == "bad") one.error = ItemError{Code::bad_data, "not this one"};
    return one;
  }

  void answer_all() {
    while (!held.empty()) {
      auto [request, on_done] = std::move(held.front());
      held.pop_front();
      Response response;
      for (const TextInput& text : request.texts) response.texts.push_back(vector_of(std::get<std::string>(text)));
      on_done(std::move(response));
    }
  }
};

struct Caller {
  std::vector<LabelResult> results;
  OnLabels take() {
    return [this](const LabelResult& result) { results.push_back(result); };
  }
  std::shared_ptr<const LabelSet> set() const { return std::get<std::shared_ptr<const LabelSet>>(results.at(0)); }
  ItemError error() const { return std::get<ItemError>(results.at(0)); }
};

std::vector<std::string> many(int count) {
  std::vector<std::string> labels;
  for (int i = 0; i < count; ++i)
    labels.push_back(std::string(static_cast<std::size_t>(i % 50), 'x') + std::to_string(i));
  return labels;
}

TEST(LabelCache, ComputesOnceInPortionsAndRemembers) {
  HeldEngine engine;
  const auto cache = std::make_shared<LabelCache>(engine.submit(), 1 << 20, 10);
  Caller first, second, third;
  const auto labels = many(25);
  cache->get(labels, {}, nullptr, first.take());
  cache->get(labels, {}, nullptr, second.take());  // while the first is under way
  EXPECT_TRUE(first.results.empty());
  engine.answer_all();
  EXPECT_EQ(engine.texts, 25u);
  EXPECT_EQ(engine.largest, 10u);
  cache->get(labels, {}, nullptr, third.take());
  for (const Caller* caller : {&first, &second, &third}) EXPECT_EQ(caller->set(), first.set());
  EXPECT_EQ(cache->misses(), 1u);
  EXPECT_EQ(cache->hits(), 2u);
  for (std::size_t i = 0; i < labels.size(); ++i) {
    EXPECT_EQ(first.set()->vectors[2 * i], HeldEngine::vector_of(labels[i]).values[0]) << i;
  }
}

TEST(LabelCache, TemplatesAreAveragedToUnitLength) {
  HeldEngine engine;
  const auto cache = std::make_shared<LabelCache>(engine.submit(), 1 << 20, 3);
  Caller caller;
  cache->get({"a", "long label"}, {"{}", "a photo of a {} and {}"}, nullptr, caller.take());
  engine.answer_all();
  const auto set = caller.set();
  ASSERT_EQ(set->vectors.size(), 4u);
  const auto a = HeldEngine::vector_of("long label").values;
  const auto b = HeldEngine::vector_of("a photo of a long label and long label").values;
  const float norm = std::hypot(a[0] + b[0], a[1] + b[1]);
  EXPECT_FLOAT_EQ(set->vectors[2], (a[0] + b[0]) / norm);
  EXPECT_FLOAT_EQ(set->vectors[3], (a[1] + b[1]) / norm);
  // The same labels with other templates are another set.
  Caller other;
  cache->get({"a", "long label"}, {"{}"}, nullptr, other.take());
  engine.answer_all();
  EXPECT_NE(other.set(), set);
}

TEST(LabelCache, FailuresReachEveryCallerAndAreForgotten) {
  HeldEngine engine;
  const auto cache = std::make_shared<LabelCache>(engine.submit(), 1 << 20, 4);
  Caller first, second, third;
  cache->get({"a", "bad", "c"}, {}, nullptr, first.take());
  cache->get({"a", "bad", "c"}, {}, nullptr, second.take());
  engine.answer_all();
  EXPECT_EQ(first.error().message, "labels[1]: not this one");
  EXPECT_EQ(second.error().code, Code::bad_data);
  engine.full = true;
  cache->get({"a"}, {}, nullptr, third.take());
  EXPECT_EQ(third.error().code, Code::overloaded);
  engine.full = false;
  Caller again;
  cache->get({"a"}, {}, nullptr, again.take());
  engine.answer_all();
  EXPECT_EQ(again.set()->labels.size(), 1u);
}

TEST(LabelCache, StopsWhenEveryCallerHasGone) {
  HeldEngine engine;
  const auto cache = std::make_shared<LabelCache>(engine.submit(), 1 << 20, 10);
  const auto gone = std::make_shared<std::atomic<bool>>(false), stays = std::make_shared<std::atomic<bool>>(false);
  Caller one, two;
  cache->get(many(40), {}, gone, one.take());
  cache->get(many(40), {}, stays, two.take());
  *gone = true;
  engine.answer_all();
  EXPECT_EQ(two.set()->labels.size(), 40u);
  Caller three;
  cache->get(many(41), {}, gone, three.take());
  engine.answer_all();
  EXPECT_EQ(three.error().code, Code::cancelled);
  EXPECT_EQ(engine.texts, 40u);
}

TEST(LabelCache, KeepsWithinItsBytes) {
  HeldEngine engine;
  const auto cache = std::make_shared<LabelCache>(engine.submit(), 2000, 10);
  for (int round = 0; round < 2; ++round) {
    for (int set = 0; set < 10; ++set) {
      Caller caller;
      cache->get({std::string("label ") + std::to_string(set)}, {}, nullptr, caller.take());
      engine.answer_all();
      ASSERT_EQ(caller.results.size(), 1u);
    }
  }
  EXPECT_EQ(cache->misses(), 20u);  // ten sets do not fit: the oldest has always gone when its turn comes again
  Caller last;
  cache->get({"label 9"}, {}, nullptr, last.take());
  EXPECT_EQ(cache->hits(), 1u);
}

TEST(ZeroShot, TemplatesAreFilledAtEveryPlace) {
  EXPECT_EQ(fill_template("a {} and {}!", "cat"), "a cat and cat!");
  EXPECT_EQ(fill_template("{}", "{}"), "{}");
  EXPECT_EQ(fill_template("none", "cat"), "none");
  EXPECT_EQ(fill_template("", "cat"), "");
}

TEST(ZeroShot, AveragesAsTheDefinitionSays) {
  LabelAverager average({"a", "b"}, 2);
  EXPECT_EQ(average.wanted(), 4u);
  average.add(std::vector<float>{1, 0});
  average.add(std::vector<float>{0, 1});
  average.add(std::vector<float>{0.6F, 0.8F});
  EXPECT_THROW(LabelAverager(average).take(), Error);  // one is missing
  EXPECT_THROW(LabelAverager(average).add(std::vector<float>{1, 0, 0}), Error);
  EXPECT_THROW(LabelAverager(average).add(std::vector<float>{-0.6F, -0.8F}), Error);  // nothing is left
  average.add(std::vector<float>{0.6F, 0.8F});
  EXPECT_THROW(average.add(std::vector<float>{1, 0}), Error);
  const LabelSet set = std::move(average).take();
  ASSERT_EQ(set.vectors.size(), 4u);
  EXPECT_FLOAT_EQ(set.vectors[0], std::sqrt(0.5F));
  EXPECT_FLOAT_EQ(set.vectors[1], std::sqrt(0.5F));
  EXPECT_FLOAT_EQ(set.vectors[2], 0.6F);
  EXPECT_FLOAT_EQ(set.vectors[3], 0.8F);
}

TEST(ZeroShot, ScoresAreASoftmaxBestFirst) {
  const LabelSet set{{"x", "y", "same", "far"}, {1, 0, 0, 1, 0, 1, -1, 0}};
  const std::vector<float> image{0.6F, 0.8F};
  const auto all = score_labels(image, set, 10);
  ASSERT_EQ(all.size(), 4u);
  const double logits[] = {6, 8, 8, -6};
  double sum = 0;
  for (const double logit : logits) sum += std::exp(logit - 8);
  const std::size_t order[] = {1, 2, 0, 3};  // equal ones as they were given
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(all[i].label, order[i]);
    EXPECT_FLOAT_EQ(all[i].logit, static_cast<float>(logits[order[i]]));
    EXPECT_NEAR(all[i].probability, std::exp(logits[order[i]] - 8) / sum, 1e-6);
  }
  const auto best = score_labels(image, set, 10, 2);
  ASSERT_EQ(best.size(), 2u);
  EXPECT_EQ(best[1].label, 2u);
  EXPECT_EQ(best[1].probability, all[1].probability);             // of all labels, not of those shown
  EXPECT_EQ(score_labels(image, set, 1e4)[0].probability, 0.5F);  // no overflow
  EXPECT_THROW(score_labels(std::vector<float>{1, 0, 0}, set, 10), Error);
}

}  // namespace
}  // namespace tandem::server
