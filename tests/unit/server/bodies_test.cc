#include "server/bodies.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace tandem::server {
namespace {

constexpr std::size_t kMib = std::size_t{1} << 20;

TEST(Bodies, WhatIsGivenIsTakenAgain) {
  Bodies bodies(16 * kMib);
  std::string body = bodies.take(3 * kMib);
  EXPECT_GE(body.capacity(), 3 * kMib);
  body.assign(2 * kMib, 'x');
  const char* memory = body.data();
  bodies.give(std::move(body));
  EXPECT_GE(bodies.bytes(), 3 * kMib);
  const std::string again = bodies.take(2 * kMib);
  EXPECT_EQ(again.data(), memory);
  EXPECT_TRUE(again.empty());  // nothing of another's body
  EXPECT_EQ(bodies.bytes(), 0u);
}

TEST(Bodies, ABodyGetsNeitherTooLittleNorFarTooMuch) {
  Bodies bodies(64 * kMib);
  bodies.give(bodies.take(32 * kMib));
  EXPECT_LT(bodies.take(kMib).capacity(), 2 * kMib);
  EXPECT_LT(bodies.take(10).capacity(), kMib);
  EXPECT_GE(bodies.take(33 * kMib).capacity(), 33 * kMib);
  EXPECT_GE(bodies.bytes(), 32 * kMib);
}

TEST(Bodies, NoMoreIsKeptThanAllowed) {
  Bodies bodies(4 * kMib);
  for (int i = 0; i < 10; ++i) {
    std::string a = bodies.take(kMib + static_cast<std::size_t>(i)), b = bodies.take(9 * kMib);
    bodies.give(std::move(a));
    bodies.give(std::move(b));
    EXPECT_LE(bodies.bytes(), 4 * kMib);
  }
  Bodies none(0);
  none.give(none.take(kMib));
  EXPECT_EQ(none.bytes(), 0u);
}

TEST(Bodies, WhatNobodyWantsIsFreed) {
  Bodies bodies(64 * kMib);
  std::vector<std::string> held;
  for (int i = 0; i < 4; ++i) held.push_back(bodies.take(kMib));
  for (auto& body : held) bodies.give(std::move(body));
  bodies.age();
  EXPECT_GE(bodies.bytes(), 4 * kMib);  // they were wanted since the last time
  bodies.give(bodies.take(kMib));
  bodies.age();
  EXPECT_GE(bodies.bytes(), kMib);
  EXPECT_LT(bodies.bytes(), 2 * kMib);  // one was
  bodies.age();
  EXPECT_EQ(bodies.bytes(), 0u);
}

TEST(Bodies, ManyThreads) {
  Bodies bodies(8 * kMib);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&bodies, t] {
      for (std::size_t i = 0; i < 200; ++i) {
        std::string body = bodies.take(kMib + i * 1000);
        EXPECT_TRUE(body.empty());
        body.assign(100, static_cast<char>('a' + t));
        bodies.give(std::move(body));
        if (i % 16 == 0) bodies.age();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_LE(bodies.bytes(), 8 * kMib);
}

}  // namespace
}  // namespace tandem::server
