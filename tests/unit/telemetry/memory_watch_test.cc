#include "telemetry/memory_watch.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <vector>

namespace tandem::telemetry {
namespace {

TEST(MemoryWatch, GrowthIsASlope) {
  MemoryWatch watch;
  EXPECT_EQ(watch.growth_per_1000(), 0);
  for (std::uint64_t n = 1; n <= 200; ++n) watch.add(1500 * n, 1'000'000 + 3000 * n);
  EXPECT_NEAR(watch.growth_per_1000(), 2000, 1e-3);
  EXPECT_EQ(watch.samples(), MemoryWatch::kSamples);
}

TEST(MemoryWatch, SteadyMemoryHasNone) {
  MemoryWatch watch;
  for (std::uint64_t n = 1; n <= 10; ++n) watch.add(1000 * n, 5'000'000 + (n % 2) * 10);
  EXPECT_NEAR(watch.growth_per_1000(), 0, 2);
}

TEST(MemoryWatch, SamplesLieApartAndAfterTheWarmUp) {
  MemoryWatch watch;
  for (const std::uint64_t requests : {0, 500, 999, 1000, 1001, 1999, 2000, 2500}) watch.sample(requests);
  EXPECT_EQ(watch.samples(), 2u);
}

TEST(MemoryWatch, SeesMemoryThatStays) {
  MemoryWatch watch;
  std::vector<std::vector<char>> kept;
  for (std::uint64_t n = 1; n <= 8; ++n) {
    kept.emplace_back(std::size_t{8} << 20, '\1');
    watch.sample(1000 * n);
  }
  EXPECT_NEAR(watch.growth_per_1000(), 8 << 20, 1 << 20);
}

TEST(ProcessFacts, AreThisProcess) {
  const ProcessFacts facts = process_facts();
  EXPECT_GT(facts.resident_bytes, std::size_t{1} << 20);
  EXPECT_GE(facts.peak_resident_bytes, facts.resident_bytes);
  EXPECT_GT(facts.virtual_bytes, facts.resident_bytes);
  EXPECT_GE(facts.open_files, 3u);
  EXPECT_GE(facts.max_files, facts.open_files);
  const auto now = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  EXPECT_NEAR(facts.start_seconds, now, 600);
}

}  // namespace
}  // namespace tandem::telemetry
