// The threads that share an operation: every task once, and a clear error where the system gives no threads.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <string>
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
