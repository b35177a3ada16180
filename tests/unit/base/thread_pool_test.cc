#include "base/thread_pool.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/resource.h>

#include <atomic>
#include <future>
#include <numeric>

#include "tandem/error.h"

namespace tandem {
namespace {

/// Keeps one thread busy until it is opened.
class Gate {
 public:
  std::function<void()> task() {
    return [this] {
      entered_.set_value();
      opened_.wait();
    };
  }
  void wait_until_entered() { entered_.get_future().wait(); }
  void open() { open_.set_value(); }

 private:
  std::promise<void> entered_, open_;
  std::shared_future<void> opened_ = open_.get_future().share();
};

TEST(ThreadPool, OneThreadKeepsTheOrder) {
  std::vector<int> seen;
  {
    ThreadPool pool(1);
    EXPECT_EQ(pool.size(), 1);
    for (int i = 0; i < 1000; ++i) pool.post([&seen, i] { seen.push_back(i); });
  }  // runs what waits
  std::vector<int> expected(1000);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(seen, expected);
}

TEST(ThreadPool, EveryTaskRunsOnceWhoeverPosts) {
  std::vector<std::atomic<int>> runs(4000);
  ThreadPool pool(3);
  std::vector<std::thread> callers;
  for (std::size_t c = 0; c < 4; ++c) {
    callers.emplace_back([&, c] {
      for (std::size_t i = 0; i < 1000; ++i) pool.submit([&runs, at = c * 1000 + i] { ++runs[at]; });
    });
  }
  for (auto& caller : callers) caller.join();
  pool.stop();
  for (const auto& count : runs) EXPECT_EQ(count, 1);
}

TEST(ThreadPool, WhatWaitsIsBounded) {
  Gate gate;
  std::atomic<int> ran{0};
  ThreadPool pool(1, {.max_waiting = 2});
  pool.submit(gate.task());
  gate.wait_until_entered();
  pool.submit([&] { ++ran; });
  pool.submit([&] { ++ran; });
  try {
    pool.submit([&] { ++ran; });
    ADD_FAILURE() << "a third one was taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::overloaded);
  }
  pool.post([&] { ++ran; });  // the second half of something that was admitted
  gate.open();
  pool.stop();
  EXPECT_EQ(ran, 3);
}

TEST(ThreadPool, AfterTheEndWorkIsRefusedAndSecondHalvesRunAtOnce) {
  ThreadPool pool(2);
  pool.stop();
  try {
    pool.submit([] {});
    ADD_FAILURE() << "taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::unavailable);
  }
  std::thread::id ran_on;
  pool.post([&] { ran_on = std::this_thread::get_id(); });
  EXPECT_EQ(ran_on, std::this_thread::get_id());
  pool.stop();  // again: nothing happens
}

/// Until it goes, no thread can be started: none of the size that is asked for fits the address space.
class NoThreads {
 public:
  NoThreads() {
    pthread_getattr_default_np(&before_);
    pthread_attr_t huge;
    pthread_attr_init(&huge);
    pthread_attr_setstacksize(&huge, std::size_t{1} << 47);
    pthread_setattr_default_np(&huge);
    pthread_attr_destroy(&huge);
  }
  ~NoThreads() {
    pthread_setattr_default_np(&before_);
    pthread_attr_destroy(&before_);
  }
  NoThreads(const NoThreads&) = delete;
  NoThreads& operator=(const NoThreads&) = delete;

 private:
  pthread_attr_t before_;
};

TEST(ThreadPool, WithoutThreadsThereIsAClearError) {
  {
    const NoThreads none;
    try {
      ThreadPool pool(4);
      ADD_FAILURE() << "it has threads";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::unavailable);
      EXPECT_EQ(std::string(error.what()).find("cannot start thread 1 of 4: Resource temporarily unavailable"), 0u)
          << error.what();
    }
    EXPECT_THROW(start_thread("the loader", [] {}), Error);
  }
  std::atomic<int> ran{0};
  ThreadPool pool(2);
  pool.post([&] { ++ran; });
  pool.stop();
  EXPECT_EQ(ran, 1);
}

TEST(ThreadPool, TheProcessHasACore) {
  EXPECT_GE(usable_cores(), 1);
  // As many as the affinity mask says, in a thread that may use one only.
  int cores = 0;
  std::thread([&] {
    cpu_set_t all, one;
    CPU_ZERO(&one);
    ASSERT_EQ(sched_getaffinity(0, sizeof all, &all), 0);
    for (int core = 0; core < CPU_SETSIZE; ++core) {
      if (!CPU_ISSET(core, &all)) continue;
      CPU_SET(core, &one);
      break;
    }
    ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    cores = usable_cores();
  }).join();
  EXPECT_EQ(cores, 1);
}

TEST(ThreadPool, ThreadsThatGiveWaySayWhoTheyAre) {
  char name[16] = {};
  int way = 0;
  {
    ThreadPool pool(1, {.name = "a name that is long"});
    pool.give_way();
    pool.post([&] {
      ::pthread_getname_np(::pthread_self(), name, sizeof name);
      way = ::getpriority(PRIO_PROCESS, 0);
    });
  }
  EXPECT_EQ(std::string(name), "a name that is ");  // as much as the system keeps
  EXPECT_EQ(way, 19);
  EXPECT_LT(::getpriority(PRIO_PROCESS, 0), 19);  // nobody else's
}

TEST(ThreadPool, ThreadsStayOnTheirCores) {
  const std::vector<int> cores = usable_core_numbers();
  ASSERT_EQ(static_cast<int>(cores.size()), usable_cores());
  std::vector<std::vector<int>> seen(3);
  {
    // Each of the three is in a task when the next begins.
    ThreadPool pool(3, {.cores = {cores.back(), cores.front()}});
    std::atomic<std::size_t> begun{0};
    for (int i = 0; i < 3; ++i) {
      pool.post([&] {
        seen[begun++] = usable_core_numbers();
        while (begun < 3) std::this_thread::yield();
      });
    }
  }
  int last = 0, first = 0;
  for (const auto& own : seen) {
    ASSERT_EQ(own.size(), 1U);
    last += own.front() == cores.back() ? 1 : 0, first += own.front() == cores.front() ? 1 : 0;
  }
  EXPECT_EQ(last, cores.size() == 1 ? 3 : 2);
  EXPECT_EQ(first, cores.size() == 1 ? 3 : 1);
  EXPECT_EQ(usable_core_numbers(), cores) << "of this thread";
}

}  // namespace
}  // namespace tandem
