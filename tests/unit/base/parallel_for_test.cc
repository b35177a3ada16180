// A loop shared with a pool: everything once, never a wait for threads that are busy, the first failure out.
#include "base/parallel_for.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

namespace tandem {
namespace {

TEST(ParallelFor, EveryIndexOnce) {
  ThreadPool pool(3);
  for (const std::size_t count : {0u, 1u, 2u, 1000u}) {
    std::vector<std::atomic<int>> seen(count);
    parallel_for(&pool, 3, count, [&](std::size_t i) { ++seen[i]; });
    for (const auto& n : seen) EXPECT_EQ(n, 1);
  }
  std::vector<std::size_t> alone;
  parallel_for(nullptr, 5, 4, [&](std::size_t i) { alone.push_back(i); });
  EXPECT_EQ(alone, (std::vector<std::size_t>{0, 1, 2, 3}));
}

TEST(ParallelFor, UsesThePoolsThreads) {
  ThreadPool pool(2);
  std::mutex mutex;
  std::set<std::thread::id> threads;
  std::promise<void> second;
  auto other = second.get_future();
  // The caller holds index 0 until somebody else has taken index 1.
  parallel_for(&pool, 2, 2, [&](std::size_t i) {
    if (i == 0) other.wait();
    if (i == 1) second.set_value();
    const std::lock_guard lock(mutex);
    threads.insert(std::this_thread::get_id());
  });
  EXPECT_EQ(threads.size(), 2u);
}

TEST(ParallelFor, DoesNotWaitForABusyPool) {
  ThreadPool pool(1);
  std::promise<void> finish;
  pool.post([blocked = finish.get_future().share()] { blocked.wait(); });
  int done = 0;
  {
    const auto body = std::make_unique<int>(1);  // gone by the time the pool gets to it
    parallel_for(&pool, 1, 10, [&](std::size_t) { done += *body; });
  }
  EXPECT_EQ(done, 10);
  finish.set_value();
}

TEST(ParallelFor, ThrowsTheFirstFailureAndBeginsNothingAfterIt) {
  ThreadPool pool(3);
  for (int round = 0; round < 50; ++round) {
    std::atomic<int> begun{0};
    try {
      parallel_for(&pool, 3, 1000, [&](std::size_t i) {
        ++begun;
        if (i >= 5) throw std::runtime_error(std::to_string(i));
      });
      FAIL() << "nothing was thrown";
    } catch (const std::runtime_error& e) {
      EXPECT_STREQ(e.what(), "5");
    }
    EXPECT_LE(begun, 6 + 3);
  }
}

}  // namespace
}  // namespace tandem
