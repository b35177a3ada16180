// What fails is replaced: replicas whose device failed, while others work and requests wait; and passes that found no
// memory, by smaller ones.
#include <atomic>

#include "unit/engine/gated_engine.h"

namespace tandem {
namespace {

using std::chrono::milliseconds;

class Replacing : public engine::test::GatedEngine {
 protected:
  Replacing() { context_.impl().replace_after.assign(3, milliseconds(1)); }
  void break_text_pass(Engine& engine) {
    gates_.fail(false, broken_);
    auto answer = ask(engine, texts(0, 1));
    EXPECT_EQ(error_of(answer).code, Code::device_failure);
  }
  static bool is(const Engine& engine, int working, int replacing) {
    const EngineHealth h = engine.health();
    return h.working == working && h.replacing == replacing;
  }
  const Error broken_{Code::device_failure, "fell off the bus"};
};

TEST_F(Replacing, AReplicaWhoseDeviceFailedIsMadeAnew) {
  Engine engine(context_, options(4));
  const std::size_t used = context_.memory_used();
  const int prepared = gates_.prepared();
  EXPECT_TRUE(engine.health().reason.empty());
  for (int round = 1; round <= 5; ++round) {  // more often than it would be tried in vain
    break_text_pass(engine);
    ASSERT_NO_FATAL_FAILURE(expect_both_answered(engine));
    EXPECT_TRUE(is(engine, 1, 0));
    EXPECT_EQ(gates_.made(), 2 + 2 * round);
    EXPECT_EQ(gates_.prepared(), prepared * (1 + round));  // nobody else has the weights
    EXPECT_EQ(context_.memory_used(), used);
    EXPECT_TRUE(engine.health().reason.empty());
  }
  EXPECT_TRUE(was_said("0 of 1 are left: fell off the bus"));
  EXPECT_TRUE(was_said("a replica was replaced, 1 of 1 work"));
}

TEST_F(Replacing, TheNewOneIsOnTheDeviceThatTheEngineSaysItIsOn) {
  std::mutex mutex;
  std::vector<DeviceId::Kind> asked;
  context_.impl().make_backend = [&](DeviceId device, const ContextOptions&, const engine::Place&) {
    const std::lock_guard lock(mutex);
    asked.push_back(device.kind);
    return std::make_unique<engine::test::GatedBackend>(gates_);
  };
  EngineOptions o = options(4);
  o.device = DeviceId{};
  ASSERT_EQ(o.device.kind, DeviceId::Kind::automatic);
  Engine engine(context_, o);
  ASSERT_EQ(engine.info().device, "reference");
  break_text_pass(engine);
  // Images alone may be answered by the old one, whose other lane has not failed.
  ASSERT_NO_FATAL_FAILURE(expect_both_answered(engine));
  constexpr auto kAny = DeviceId::Kind::automatic, kFound = DeviceId::Kind::reference;
  const std::lock_guard lock(mutex);
  EXPECT_EQ(asked, (std::vector{kAny, kFound, kFound, kFound}));
}

TEST_F(Replacing, MeanwhileTheOthersWork) {
  Engine engine(context_, options(4, 2));
  const int prepared = gates_.prepared();
  gates_.let_make(false);
  break_text_pass(engine);
  ASSERT_TRUE(eventually([&] { return is(engine, 1, 1); }));
  EXPECT_EQ(engine.health().replicas, 2);
  EXPECT_EQ(engine.health().reason, "fell off the bus");
  for (int i = 0; i < 3; ++i) {
    ASSERT_NO_FATAL_FAILURE(expect_both_answered(engine));
  }
  EXPECT_TRUE(is(engine, 1, 1));
  gates_.let_make(true);
  ASSERT_TRUE(eventually([&] { return is(engine, 2, 0); }));
  EXPECT_EQ(gates_.prepared(), prepared);  // the other still has the weights
  EXPECT_EQ(engine.working_replicas(), 2);
}

TEST_F(Replacing, WithNoneLeftRequestsWaitUpToTheirDeadline) {
  EngineOptions o = options(4);
  o.max_queue = 16;
  Engine engine(context_, o);
  gates_.let_make(false);
  const int made = gates_.made();
  break_text_pass(engine);
  // The other lane may take work until it is told; when the next replica is being made, nobody does.
  ASSERT_TRUE(eventually([&] { return is(engine, 0, 1) && gates_.made() > made; }));
  EXPECT_FALSE(engine.healthy());
  auto patient = ask(engine, images(0, 4));
  Request hasty = texts(0, 2), gone = texts(2, 2);
  hasty.deadline = std::chrono::steady_clock::now() + milliseconds(50);
  gone.cancel = std::make_shared<std::atomic<bool>>(false);
  auto late = ask(engine, hasty), withdrawn = ask(engine, gone);
  *gone.cancel = true;
  ASSERT_TRUE(arrives(late) && arrives(withdrawn));
  EXPECT_EQ(error_of(late).code, Code::deadline_exceeded);
  EXPECT_EQ(error_of(withdrawn).code, Code::cancelled);
  EXPECT_TRUE(waits(patient));
  EXPECT_EQ(engine.queued(), 4U);
  auto filled = ask(engine, texts());
  try {
    ask(engine, images(0, 1));
    FAIL() << "the queue has no bound";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::overloaded);
  }
  gates_.let_make(true);
  ASSERT_TRUE(arrives(patient) && arrives(filled));
  expect_right(patient.get());
  expect_right(filled.get());
}

TEST_F(Replacing, WhereEveryTryFailsEverythingIsAnsweredSo) {
  Engine engine(context_, options(2));
  gates_.let_make(false);
  const int made = gates_.made();
  break_text_pass(engine);
  // The other lane may take work until it is told; when the next replica is being made, nobody does.
  ASSERT_TRUE(eventually([&] { return is(engine, 0, 1) && gates_.made() > made; }));
  auto first = ask(engine, images()), second = ask(engine, texts());
  gates_.fail_making(1000);
  gates_.let_make(true);
  ASSERT_TRUE(arrives(first) && arrives(second));
  for (auto* answer : {&first, &second}) {
    const ItemError error = error_of(*answer);
    EXPECT_EQ(error.code, Code::device_failure);
    for (const char* part : {"fell off the bus", "could not be replaced in 3 tries", "the device does not open"}) {
      EXPECT_NE(error.message.find(part), std::string::npos) << error.message;
    }
  }
  EXPECT_TRUE(is(engine, 0, 0));
  EXPECT_EQ(gates_.made(), 2 + 3);
  EXPECT_EQ(engine.queued(), 0U);
  EXPECT_EQ(context_.memory_used(), 0U);
  try {
    ask(engine, texts());
    FAIL() << "a request is accepted that nobody will compute";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::device_failure);
  }
}

TEST_F(Replacing, ALaterTryMaySucceed) {
  Engine engine(context_, options(4));
  gates_.fail_making(2);
  break_text_pass(engine);
  auto answer = ask(engine, images());
  ASSERT_TRUE(arrives(answer));
  expect_right(answer.get());
  EXPECT_TRUE(eventually([&] { return was_said("try 2 of 3: the device does not open"); }));
  EXPECT_TRUE(eventually([&] { return is(engine, 1, 0); }));
  EXPECT_FALSE(was_said("try 3 of 3"));
}

TEST_F(Replacing, OneThatNeverComputesABatchIsGivenUp) {
  Engine engine(context_, options(2));
  gates_.fail(false, broken_, 1000);
  gates_.fail(true, broken_, 1000);
  auto answer = ask(engine, images());
  ASSERT_TRUE(arrives(answer));
  EXPECT_EQ(error_of(answer).code, Code::device_failure);
  while (true) {
    try {
      auto next = ask(engine, texts(0, 1));
      ASSERT_TRUE(arrives(next));
      EXPECT_EQ(error_of(next).code, Code::device_failure);
    } catch (const Error&) {
      break;
    }
  }
  EXPECT_TRUE(is(engine, 0, 0));
  EXPECT_EQ(gates_.made(), 2 + 2 * 3);
}

TEST_F(Replacing, TheLastOfTwoThatIsGivenUpEndsIt) {
  Engine engine(context_, options(2, 2));
  gates_.let_make(false);
  break_text_pass(engine);
  ASSERT_TRUE(eventually([&] { return is(engine, 1, 1); }));
  break_text_pass(engine);
  ASSERT_TRUE(eventually([&] { return is(engine, 0, 2); }));
  auto answer = ask(engine, images());
  EXPECT_TRUE(waits(answer));
  gates_.fail_making(1000);
  gates_.let_make(true);
  ASSERT_TRUE(arrives(answer));
  EXPECT_EQ(error_of(answer).code, Code::device_failure);
  EXPECT_TRUE(is(engine, 0, 0));
}

TEST_F(Replacing, ShuttingDownDoesNotWaitForATry) {
  context_.impl().replace_after.assign(1, std::chrono::hours(1));
  auto engine = std::make_unique<Engine>(context_, options(2));
  break_text_pass(*engine);
  ASSERT_TRUE(eventually([&] { return is(*engine, 0, 1); }));
  auto answer = ask(*engine, images());
  engine.reset();
  ASSERT_TRUE(arrives(answer));
  EXPECT_EQ(error_of(answer).code, Code::unavailable);
}

TEST_F(Replacing, APassThatRunsOutOfMemoryIsComputedInSmallerOnes) {
  Engine engine(context_, options(static_cast<int>(kItems)));
  const std::int64_t image_rows = [&] {
    gates_.largest_pass();
    expect_right(ask(engine, images(0, 1)).get());
    return gates_.largest_pass();
  }();
  gates_.set_most_rows(3 * image_rows + 1);
  auto answer = ask(engine, images());
  ASSERT_TRUE(arrives(answer));
  expect_right(answer.get());
  EXPECT_EQ(gates_.largest_pass(), 3 * image_rows);
  EXPECT_TRUE(was_said("a pass of 12 ran out of memory, passes of 6 are tried"));
  EXPECT_TRUE(was_said("a pass of 6 ran out of memory, passes of 3 are tried"));
  EXPECT_FALSE(was_said("a pass of 3 ran out"));
  gates_.set_most_rows(16);  // four texts that differ in three tokens each
  auto said = ask(engine, texts());
  ASSERT_TRUE(arrives(said));
  expect_right(said.get());
  EXPECT_TRUE(engine.healthy());
  // One that does not fit alone has its error, and nobody else.
  auto none = ask(engine, images(0, 2));
  EXPECT_EQ(error_of(none).code, Code::out_of_memory);
  auto still = ask(engine, texts());
  expect_right(still.get());
  EXPECT_TRUE(is(engine, 1, 0));
  EXPECT_EQ(engine.queued(), 0U);
}

TEST_F(Replacing, WantOfMemoryThatIsSeenLateIsRecoveredFromToo) {
  Engine engine(context_, options(4));
  close_all();
  auto answer = ask(engine, images());
  ASSERT_TRUE(gates_.under_way(true, 2));
  gates_.fail(true, Error(Code::out_of_memory, "no page is left"));
  open_all();
  ASSERT_TRUE(arrives(answer));
  expect_right(answer.get());
  EXPECT_TRUE(was_said("a pass of 4 ran out of memory, passes of 2 are tried: no page is left"));
}

TEST_F(Replacing, LargePassesComeBackWhenMemoryDoes) {
  Engine engine(context_, options(4));
  const auto rows_of = [&](std::size_t count) {
    gates_.largest_pass();
    expect_right(ask(engine, images(0, count)).get());
    return gates_.largest_pass();
  };
  const std::int64_t one = rows_of(1);
  EXPECT_EQ(rows_of(4), 4 * one);
  gates_.fail(true, Error(Code::out_of_memory, "no page is left"));
  expect_right(ask(engine, images(0, 4)).get());
  EXPECT_EQ(rows_of(4), 2 * one);
  for (int i = 0; i < 1000; ++i) expect_right(ask(engine, images(0, 1)).get());
  EXPECT_EQ(rows_of(4), 4 * one);
}

}  // namespace
}  // namespace tandem
