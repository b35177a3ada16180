// The threads that share an operation: every task once, and a clear error where the system gives no threads.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/team.h"
#include "tandem/error.h"

namespace tandem::backend::cpu {
namespace {

TEST(Team, EveryTaskOnce) {
  Team team(3, Team::Kind::own, {});
  for (int round = 0; round < 200; ++round) {
    std::vector<std::atomic<int>> seen(static_cast<std::size_t>(round));
    team.run(round, false, [&](std::int64_t t, int) { ++seen[static_cast<std::size_t>(t)]; });
    for (const auto& n : seen) ASSERT_EQ(n, 1);
  }
}

/// The threads that took tasks of an operation.
std::set<int> threads_of(Team& team) {
  std::mutex mutex;
  std::set<int> seen;
  team.run(64, false, [&](std::int64_t, int thread) {
    std::this_thread::sleep_for(std::chrono::microseconds(200));  // so that everybody who may take some does
    const std::lock_guard lock(mutex);
    seen.insert(thread);
  });
  return seen;
}

TEST(SharedCores, AreDividedAmongPassesAndThoseWhoPrepare) {
  SharedCores cores;
  EXPECT_EQ(cores.part_of(8), 8);  // as long as nobody says that there is a pass
  cores.passes = 1;
  EXPECT_EQ(cores.part_of(8), 8);
  cores.passes = 2;
  EXPECT_EQ(cores.part_of(8), 4);
  cores.preparing = 3;
  EXPECT_EQ(cores.part_of(8), 2);
  cores.passes = 1;
  EXPECT_EQ(cores.part_of(8), 5);
  cores.preparing = 20;
  EXPECT_EQ(cores.part_of(8), 1);
  EXPECT_EQ(cores.part_of(1), 1);
}

TEST(SharedCores, ATeamHasItsPartAndAllAgain) {
  const auto cores = std::make_shared<SharedCores>();
  Team team(4, Team::Kind::own, {}, cores);
  for (int round = 0; round < 20; ++round) {
    for (const int passes : {1, 2, 4, 2}) {
      cores->passes = passes;
      EXPECT_EQ(team.threads(), 4 / passes);
      const std::set<int> seen = threads_of(team);
      if (passes == 4) {
        EXPECT_EQ(seen, std::set<int>{0});
      }
    }
  }
  // Whatever the others do meanwhile, every task is done once.
  std::atomic<bool> stop{false};
  std::thread others([&] {
    for (int i = 0; !stop; ++i) {
      cores->passes = 1 + i % 4;
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  });
  for (int round = 0; round < 2000; ++round) {
    std::array<std::atomic<int>, 50> seen{};
    team.run(50, false, [&](std::int64_t t, int) { ++seen[static_cast<std::size_t>(t)]; });
    for (const auto& n : seen) ASSERT_EQ(n, 1);
  }
  stop = true;
  others.join();
}

/// Leaves this process room for `bytes` more of address space: a thread's stack takes some megabytes of it.
void limit_address_space(std::size_t bytes) {
  std::ifstream statm("/proc/self/statm");
  std::size_t pages = 0;
  statm >> pages;
  const rlimit limit{pages * 4096 + bytes, RLIM_INFINITY};
  ::setrlimit(RLIMIT_AS, &limit);
}

[[noreturn]] void start_too_many() {
  limit_address_space(std::size_t{256} << 20);
  try {
    make_cpu_backend({4000, false, "", GemmEngine::own});
    std::_Exit(1);
  } catch (const Error& e) {
    const std::string message = e.what();
    if (e.code() != Code::unavailable || message.find(" of 4000") == message.npos) std::_Exit(2);
  }
  // Those that had started are gone: there is room for a few again.
  Team team(4, Team::Kind::own, {});
  std::atomic<int> done{0};
  team.run(100, false, [&](std::int64_t, int) { ++done; });
  std::_Exit(done == 100 ? 0 : 3);
}

TEST(Team, TooManyThreadsAreAnError) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(__clang__)
  GTEST_SKIP() << "sanitizers need the address space";
#endif
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(start_too_many(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace tandem::backend::cpu
