// One lane a tower on a device that works beside the host: images and texts are computed at the same time, and nothing
// of one lane delays or breaks the other.
#include <atomic>
#include <thread>

#include "engine/replica.h"
#include "model/files.h"
#include "unit/engine/gated_engine.h"

namespace tandem {
namespace {

using Lanes = engine::test::GatedEngine;

TEST_F(Lanes, ATextBatchIsComputedWhileImagesAreUnderWayAndTheOtherWayRound) {
  Engine engine(context_, options(4));
  EXPECT_EQ(gates_.made(), 2);
  EXPECT_EQ(gates_.prepared(), 2);  // weights once, one projection a tower
  for (const bool slow : {true, false}) {
    gates_.close(slow);
    auto late = ask(engine, slow ? images() : texts());
    ASSERT_TRUE(gates_.under_way(slow, 2));
    for (std::size_t i = 0; i < 3; ++i) {
      auto soon = ask(engine, slow ? texts(4 * i, 4) : images(4 * i, 4));
      ASSERT_TRUE(arrives(soon));
      expect_right(soon.get(), 4 * i);
    }
    EXPECT_TRUE(waits(late));
    gates_.open(slow);
    ASSERT_TRUE(arrives(late));
    expect_right(late.get());
  }
}

TEST_F(Lanes, ARequestForBothHasBothUnderWayAtOnce) {
  Engine engine(context_, options(static_cast<int>(kItems)));
  close_all();
  auto answer = ask(engine, both());
  EXPECT_TRUE(gates_.under_way(true, 1));
  EXPECT_TRUE(gates_.under_way(false, 1));
  gates_.open(false);
  EXPECT_TRUE(gates_.under_way(false, 0));
  EXPECT_TRUE(waits(answer));
  gates_.open(true);
  ASSERT_TRUE(arrives(answer));
  const Outcome outcome = answer.get();
  expect_right(outcome);
  EXPECT_EQ(std::get<Response>(outcome).images.size(), kItems);
  EXPECT_EQ(std::get<Response>(outcome).texts.size(), kItems);
}

TEST_F(Lanes, BatchesOfALaneEndInTheirOrder) {
  Engine engine(context_, options(2));
  close_all();
  std::mutex mutex;
  std::vector<std::size_t> order[2];
  std::atomic<int> answered{0};
  for (std::size_t i = 0; i < kItems; i += 2) {
    for (const bool image : {true, false}) {
      engine.submit(image ? images(i, 2) : texts(i, 2), [&, i, image](auto answer) {
        expect_right(answer, i);
        {
          const std::lock_guard lock(mutex);
          order[image ? 1 : 0].push_back(i);
        }
        ++answered;
      });
    }
  }
  open_all();
  ASSERT_TRUE(eventually([&] { return answered == kItems; }));
  for (const auto& one : order) EXPECT_EQ(one, (std::vector<std::size_t>{0, 2, 4, 6, 8, 10}));
  EXPECT_EQ(engine.queued(), 0U);
}

TEST_F(Lanes, AnErrorOfOneLanesPassIsItsBatchsAlone) {
  Engine engine(context_, options(4));
  close_all();
  gates_.fail(false, Error(Code::internal, "this text cannot be"));
  auto wrong = ask(engine, texts(0, 4));
  auto right = ask(engine, images(0, 4));
  ASSERT_TRUE(gates_.under_way(true, 1) && gates_.under_way(false, 1));
  auto after = ask(engine, texts(4, 4));
  open_all();
  EXPECT_EQ(error_of(wrong).message, "this text cannot be");
  expect_right(right.get());
  expect_right(after.get(), 4);
  EXPECT_TRUE(engine.healthy());
}

TEST_F(Lanes, AFailedDeviceEndsBothLanesAndWhatTheOtherHadBegunIsAnswered) {
  context_.impl().replace_after.assign(2, std::chrono::milliseconds(1));
  Engine engine(context_, options(4));
  close_all();
  gates_.fail(false, Error(Code::device_failure, "fell off the bus"));
  auto broken = ask(engine, texts(0, 8));
  auto whole = ask(engine, images(0, 4));
  ASSERT_TRUE(gates_.under_way(true, 1) && gates_.under_way(false, 2));
  gates_.fail_making(1000);
  gates_.open(false);
  EXPECT_EQ(error_of(broken).code, Code::device_failure);
  EXPECT_TRUE(waits(whole));
  gates_.open(true);
  expect_right(whole.get());
  ASSERT_TRUE(eventually([&] { return !engine.healthy(); }));
  EXPECT_EQ(engine.queued(), 0U);
}

TEST_F(Lanes, ShuttingDownAnswersEverythingOnce) {
  std::atomic<int> right{0}, refused{0};
  auto engine = std::make_unique<Engine>(context_, options(2));
  close_all();
  for (std::size_t i = 0; i < kItems; ++i) {
    for (const bool image : {true, false}) {
      engine->submit(image ? images(i, 1) : texts(i, 1), [&, i](auto answer) {
        if (const auto* response = std::get_if<Response>(&answer)) {
          expect_right(*response, i);
          ++right;
        } else {
          refused += std::get<ItemError>(answer).code == Code::unavailable;
        }
      });
    }
  }
  ASSERT_TRUE(gates_.under_way(true) && gates_.under_way(false));
  std::thread end([&] { engine.reset(); });
  ASSERT_TRUE(eventually([&] { return refused > 0; }));
  open_all();
  end.join();
  EXPECT_EQ(right + refused, 2 * static_cast<int>(kItems));
  EXPECT_GE(right, 2);  // one at least in each lane was under way
}

TEST_F(Lanes, ManyThreadsOfBothKindsGetTheirVectors) {
  Engine engine(context_, options(3, 2));
  EXPECT_EQ(gates_.made(), 4);
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 6; ++t) {
    threads.emplace_back([&, t] {
      for (std::size_t round = 0; round < 20; ++round) {
        const std::size_t first = (round + static_cast<std::size_t>(t)) % kItems;
        Request r = images(first, 1);
        if (t % 2 == 0) r.texts = texts(first, 1).texts;
        const Response answer = std::get<Response>(ask(engine, r).get());
        wrong += answer.images[0].values != want_images_[first].values;
        if (t % 2 == 0) wrong += answer.texts[0].values != want_texts_[first].values;
      }
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
}

TEST_F(Lanes, TheirMemoryIsCountedAndOneTowerNeedsOne) {
  Engine both(context_, options(4));
  EXPECT_EQ(context_.memory_used(), both.info().weight_bytes + both.info().arena_bytes);
  EXPECT_EQ(context_.memory_used(), both.info().planned_bytes);
  EngineOptions o = options(4);
  o.load_text = false;
  const int before = gates_.made();
  Engine vision(context_, o);
  EXPECT_EQ(gates_.made(), before + 1);
  o.load_text = true, o.load_vision = false;
  Engine text(context_, o);
  EXPECT_EQ(gates_.made(), before + 2);
  EXPECT_EQ(both.info().arena_bytes, vision.info().arena_bytes + text.info().arena_bytes);
  Request none = images(0, 1);
  none.texts = texts(0, 1).texts;
  const Response r = text.submit(none).get();
  EXPECT_EQ(r.images[0].error.value().code, Code::unsupported);
  EXPECT_FALSE(r.texts[0].error);
}

TEST_F(Lanes, ShareWhatMemoryThereIs) {
  const std::size_t whole = Engine(context_, options(64)).info().arena_bytes;
  const auto backends = [&](int count) {
    engine::Replica::Backends out;
    for (int i = 0; i < count; ++i) out.push_back(std::make_unique<engine::test::GatedBackend>(gates_));
    return out;
  };
  auto loader = backends(1);
  const auto files = model::open_folder(options(1).model);
  const auto model = std::make_shared<const model::Model>(model::load_model(files, *loader[0], {}));
  for (const std::size_t most : {whole, whole / 2, whole / 5, whole / 20}) {
    engine::MemoryBudget budget(most);
    engine::ReplicaLimits limits;
    limits.max_batch = 64, limits.most = most;
    engine::Replica replica(backends(2), model, limits, budget);
    EXPECT_LE(budget.used(), most);
    EXPECT_EQ(budget.used(), replica.arena_bytes());
    EXPECT_EQ(replica.max_batch() == 64, most == whole) << replica.max_batch();
  }
  engine::MemoryBudget none(1000);
  engine::ReplicaLimits limits;
  limits.max_batch = 64, limits.most = 1000;
  EXPECT_THROW(engine::Replica(backends(2), model, limits, none), Error);
}

}  // namespace
}  // namespace tandem
