#include "server/memory.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "tandem/error.h"

namespace tandem::server {
namespace {

Code code_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& error) {
    return error.code();
  }
  return Code::internal;
}

TEST(Memory, IsRefusedWhenOthersHoldItAndWhenThereIsNotEnoughAtAll) {
  MemoryLimit limit(100);
  Reservation one(limit);
  one.add(60, "the body");
  {
    Reservation two(limit);
    EXPECT_EQ(code_of([&] { two.add(41, "the body"); }), Code::overloaded);
    EXPECT_EQ(code_of([&] { two.add(101, "the body"); }), Code::too_large);
    EXPECT_EQ(code_of([&] { one.add(41, "the body"); }), Code::too_large);  // even alone
    two.hold(30, "the body");
    two.hold(20, "the body");
    two.hold(40, "the body");
    EXPECT_EQ(limit.used(), 100u);
  }
  EXPECT_EQ(limit.used(), 60u);
  {
    const Extra extra(one, 40, "parsing");
    EXPECT_EQ(limit.used(), 100u);
  }
  one.set(5);
  EXPECT_EQ(limit.used(), 5u);
  one.set(150);  // it exists: counted, and nothing else fits
  EXPECT_EQ(code_of([&] { Reservation(limit).add(1, "the body"); }), Code::overloaded);
  one.set(0);
  EXPECT_EQ(limit.used(), 0u);
}

TEST(Memory, NeverMoreThanTheLimitFromManyThreads) {
  MemoryLimit limit(1000);
  std::atomic<bool> beyond{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 5000; ++i) {
        Reservation mine(limit);
        try {
          mine.add(300, "the body");
        } catch (const Error&) {
        }
        if (limit.used() > limit.limit()) beyond = true;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_FALSE(beyond);
  EXPECT_EQ(limit.used(), 0u);
}

}  // namespace
}  // namespace tandem::server
