// Which items make a batch, and when.
#include <atomic>
#include <thread>

#include "engine/batch_plan.h"
#include "unit/engine/gated_engine.h"

namespace tandem::engine {
namespace {

/// Passes planned for so many that wait.
std::vector<std::size_t> cut(const BatchPlan& plan, std::size_t waiting) {
  std::vector<std::size_t> out;
  while (waiting > 0) {
    out.push_back(plan.next(waiting));
    if (out.back() == 0 || out.back() > waiting) return {};
    waiting -= out.back();
  }
  return out;
}

using Sizes = std::vector<std::size_t>;

TEST(BatchPlan, WhatWaitsIsDoneSoonest) {
  // A device that computes in tiles of 32: one more costs as much as 16.
  const BatchPlan tiles({{1, .002}, {32, .01}, {33, .017}, {64, .018}}, 64);
  EXPECT_EQ(cut(tiles, 33), (Sizes{32, 1}));
  EXPECT_EQ(cut(tiles, 32), (Sizes{32}));
  EXPECT_EQ(cut(tiles, 64), (Sizes{64}));
  EXPECT_EQ(cut(tiles, 60), (Sizes{60}));
  EXPECT_EQ(cut(tiles, 10), (Sizes{10}));
  // The step is small: 33 at once.
  const BatchPlan smooth({{1, .002}, {32, .01}, {33, .0103}, {64, .02}}, 64);
  EXPECT_EQ(cut(smooth, 33), (Sizes{33}));
  // Items are fastest by 16: activations beyond that leave the cache.
  const BatchPlan cache({{1, .001}, {16, .008}, {32, .024}}, 32);
  EXPECT_EQ(cut(cache, 32), (Sizes{16, 16}));
  EXPECT_EQ(cut(cache, 100).front(), 16U);
  // Differences as small as what was measured is uncertain are none.
  const BatchPlan same({{1, .001}, {16, .0159}, {32, .032}}, 32);
  EXPECT_EQ(cut(same, 32), (Sizes{32}));
  // Nor are those smaller than what one time differed from the next.
  EXPECT_EQ(cut(BatchPlan({{1, .001, .2}, {16, .008, .1}, {32, .019, .1}}, 32), 32), (Sizes{32}));
  EXPECT_EQ(cut(BatchPlan({{1, .001, .2}, {16, .008, .1}, {32, .024, .1}}, 32), 32), (Sizes{16, 16}));
}

TEST(BatchPlan, LongPassesAreNoLargerThanPays) {
  // An item takes 41 ms from 8 on: ten of them are long enough, and whoever comes next waits for no more.
  const BatchPlan slow({{1, .06}, {4, .18}, {8, .33}, {16, .655}, {32, 1.3}}, 32);
  EXPECT_EQ(cut(slow, 24), (Sizes{10, 10, 4}));
  EXPECT_EQ(cut(slow, 100).front(), 10U);
  // There was no time to measure large passes of a large model: one item is as long.
  EXPECT_EQ(cut(BatchPlan({{1, 1.5}, {2, 2.99}}, 32), 3), (Sizes{1, 1, 1}));
  // Where nobody notices a few milliseconds, and where an item costs less and less, they are as large as they can be.
  EXPECT_EQ(cut(BatchPlan({{1, .001}, {8, .004}, {16, .008}, {32, .016}}, 32), 32), (Sizes{32}));
  EXPECT_EQ(cut(BatchPlan({{1, .06}, {8, .33}, {16, .6}, {32, 1}}, 32), 32), (Sizes{32}));
}

TEST(BatchPlan, WithoutMeasurementsEverythingAtOnce) {
  EXPECT_EQ(BatchPlan().next(7), 7U);
  EXPECT_EQ(BatchPlan({}, 4).next(7), 4U);
  EXPECT_EQ(BatchPlan({{1, .001}}, 4).next(7), 4U);
  EXPECT_EQ(BatchPlan({{1, 1}}, 1'000'000).next(7), 7U);
}

TEST(BatchPlan, TimesBetweenAndBeyondThoseMeasured) {
  const std::vector<PassTime> times{{1, 2}, {3, 4}, {5, 10}};
  EXPECT_DOUBLE_EQ(estimate(times, 1), 2);
  EXPECT_DOUBLE_EQ(estimate(times, 2), 3);
  EXPECT_DOUBLE_EQ(estimate(times, 4), 7);
  EXPECT_DOUBLE_EQ(estimate(times, 9), 12);  // as where an item costs least
}

TEST(BatchPlan, ASizeThatNobodyTriedIsNotCut) {
  // There was time for passes of up to 4, and something disturbed those of 4.
  const BatchPlan plan({{1, .001}, {2, .0016}, {4, .004}}, 32);
  EXPECT_EQ(cut(plan, 32), (Sizes{32}));
  EXPECT_EQ(cut(plan, 31), (Sizes{31}));
  EXPECT_EQ(cut(plan, 4), (Sizes{2, 2}));
}

using Batching = test::GatedEngine;

TEST_F(Batching, ASmallRequestDoesNotWaitForALargeOne) {
  Engine engine(context_, options(4));
  for (const bool image : {true, false}) {
    close_all();
    Request large;
    for (int i = 0; i < 10; ++i) {
      for (std::size_t k = 0; k < kItems; ++k) {
        if (image) large.images.push_back(images_[k]);
        if (!image) large.texts.push_back(texts_[k]);
      }
    }
    std::atomic<bool> large_done{false};
    engine.submit(std::move(large), [&](auto) { large_done = true; });
    ASSERT_TRUE(gates_.under_way(image, 2));
    std::atomic<std::size_t> left{0}, small_done{0};
    for (std::size_t i = 0; i < 3; ++i) {
      engine.submit(image ? images(i, 1) : texts(i, 1), [&, i](auto answer) {
        expect_right(answer, i);
        left = engine.queued();
        ++small_done;
      });
    }
    open_all();
    ASSERT_TRUE(eventually([&] { return small_done == 3 && large_done; }));
    // Two passes were under way, and a turn of the large one came before theirs.
    EXPECT_GE(left, 10 * kItems - 2 * 4 - 2 * 8 - 4);
  }
}

TEST_F(Batching, ALargeRequestIsNotStarvedBySmallOnes) {
  Engine engine(context_, options(2));
  std::atomic<bool> over{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      while (!over) expect_right(ask(engine, texts(0, 1)).get());
    });
  }
  auto large = ask(engine, texts());
  EXPECT_TRUE(arrives(large));
  over = true;
  for (auto& t : threads) t.join();
  expect_right(large.get());
}

TEST_F(Batching, HighPriorityGoesFirst) {
  Engine engine(context_, options(2));
  close_all();
  auto first = ask(engine, texts(0, 4));
  ASSERT_TRUE(gates_.under_way(false, 2));
  std::mutex mutex;
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < 6; i += 2) {
    Request r = texts(i, 2);
    r.priority = i == 4 ? Priority::high : Priority::normal;
    engine.submit(std::move(r), [&, i](auto) {
      const std::lock_guard lock(mutex);
      order.push_back(i);
    });
  }
  open_all();
  ASSERT_TRUE(eventually([&] {
    const std::lock_guard lock(mutex);
    return order.size() == 3;
  }));
  EXPECT_EQ(order, (std::vector<std::size_t>{4, 0, 2}));
}

TEST_F(Batching, PlacesInABatchAreForThoseWhoAreStillThere) {
  Engine engine(context_, options(4));
  close_all();
  auto first = ask(engine, images(0, 8));
  ASSERT_TRUE(gates_.under_way(true, 2));
  std::vector<std::future<Outcome>> gone;
  for (int i = 0; i < 3; ++i) {
    Request r = images(0, 1);
    if (i < 2) {
      r.cancel = std::make_shared<std::atomic<bool>>(true);
    } else {
      r.deadline = std::chrono::steady_clock::now();
    }
    gone.push_back(ask(engine, std::move(r)));
  }
  auto late = ask(engine, images(8, 4));
  gates_.largest_pass();
  open_all();
  EXPECT_EQ(error_of(gone[0]).code, Code::cancelled);
  EXPECT_EQ(error_of(gone[2]).code, Code::deadline_exceeded);
  expect_right(first.get());
  expect_right(late.get(), 8);
  const auto four = gates_.largest_pass();
  expect_right(ask(engine, images(0, 4)).get());
  EXPECT_EQ(four, gates_.largest_pass()) << "all four places were for the last";
}

TEST_F(Batching, ADeadlineBehindALongPassIsToldInTime) {
  Engine engine(context_, options(4));
  close_all();
  auto first = ask(engine, images(0, 1));
  ASSERT_TRUE(gates_.under_way(true, 1));
  Request r = images(1, 1);
  r.deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(30);
  auto late = ask(engine, std::move(r));
  ASSERT_TRUE(arrives(late));
  EXPECT_EQ(error_of(late).code, Code::deadline_exceeded);
  EXPECT_TRUE(waits(first));
  EXPECT_EQ(engine.queued(), 1U);
  open_all();
  expect_right(first.get());
}

TEST_F(Batching, APassWaitsForThoseWhoAreExpectedAndNobodyElseWaits) {
  EngineOptions o = options(8);
  o.max_delay = std::chrono::hours(1);
  Engine engine(context_, o);
  // Alone it is computed at once, again and again.
  for (int i = 0; i < 3; ++i) {
    auto one = ask(engine, images(0, 1));
    ASSERT_TRUE(arrives(one));
    expect_right(one.get());
  }
  const auto one_row = gates_.largest_pass();
  // Two are answered together; the first of them that is back waits a while for the other, by what that pass took.
  close_all();
  auto pair = ask(engine, images(0, 2));
  ASSERT_TRUE(gates_.under_way(true, 1));
  std::this_thread::sleep_for(std::chrono::milliseconds(800));
  open_all();
  expect_right(pair.get());
  gates_.largest_pass();
  close_all();
  auto first = ask(engine, images(0, 1));
  auto second = ask(engine, images(1, 1));
  ASSERT_TRUE(gates_.under_way(true, 1));
  open_all();
  expect_right(first.get());
  expect_right(second.get(), 1);
  EXPECT_EQ(gates_.largest_pass(), 2 * one_row);
  // And when the other does not come, it is computed all the same.
  auto alone = ask(engine, images(0, 1));
  ASSERT_TRUE(arrives(alone));
  expect_right(alone.get());
}

TEST_F(Batching, MeasuredPassesLeaveTheVectorsAsTheyAre) {
  EngineOptions o = options(8, 2);
  o.measure_seconds = 0.2;
  Engine engine(context_, o);
  EXPECT_TRUE(was_said("passes of pictures on reference take: 1: "));
  std::vector<std::future<Outcome>> answers;
  for (std::size_t i = 0; i < kItems; ++i) answers.push_back(ask(engine, images(i, 1)));
  for (std::size_t i = 0; i < kItems; ++i) expect_right(answers[i].get(), i);
  expect_both_answered(engine);
}

TEST_F(Batching, SeveralDevicesWorkBehindOneQueue) {
  std::mutex mutex;
  std::vector<DeviceId> made;
  context_.impl().make_backend = [&](DeviceId device, const ContextOptions&, const engine::Place&) {
    {
      const std::lock_guard lock(mutex);
      made.push_back(device);
    }
    return std::make_unique<test::GatedBackend>(gates_);
  };
  EngineOptions o = options(2);
  o.devices = {parse_device("reference"), parse_device("cuda:0"), parse_device("cuda:1")};
  Engine engine(context_, o);
  ASSERT_EQ(made.size(), 6U) << "a lane a tower";
  EXPECT_EQ(to_string(made[2]), "cuda:0");
  EXPECT_EQ(to_string(made[4]), "cuda:1");
  EXPECT_EQ(engine.info().replicas, 3);
  close_all();
  auto six = ask(engine, images(0, 6));
  ASSERT_TRUE(gates_.under_way(true, 3)) << "each has its share";
  auto rest = ask(engine, images(6, 6));
  open_all();
  expect_right(six.get());
  expect_right(rest.get(), 6);
  Request request = images(0, 1);
  std::vector<float> there(4096);
  request.image_vectors = {parse_device("reference"), there.data(), 1, engine.info().embed_dim};
  EXPECT_THROW(engine.submit(std::move(request)), Error);
}

}  // namespace
}  // namespace tandem::engine
