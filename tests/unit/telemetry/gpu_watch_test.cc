#include "telemetry/gpu_watch.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <thread>

namespace tandem::telemetry {
namespace {

using namespace std::chrono_literals;

TEST(GpuWatch, NeedsNoLibraryWhereNoneIsUsed) {
  GpuWatch watch("/there/is/no/such.so");
  EXPECT_TRUE(watch.facts().empty());
  watch.use("cpu");
  EXPECT_TRUE(watch.facts().empty());
  watch.use("cuda:0");
  EXPECT_TRUE(watch.facts().empty());
}

TEST(GpuWatch, ReadsWhatIsUsedAndKeepsThePeak) {
  ::unsetenv("CUDA_VISIBLE_DEVICES");
  GpuWatch watch(FAKE_NVML);
  watch.use("cuda:1"), watch.use("cuda:1"), watch.use("cuda:9");
  auto facts = watch.facts();
  ASSERT_EQ(facts.size(), 1u);
  EXPECT_EQ(facts[0].index, "1");
  EXPECT_EQ(facts[0].uuid, "GPU-bbbb-1");
  EXPECT_EQ(facts[0].name, "Fake GPU");
  EXPECT_EQ(facts[0].total_bytes, 1000u);
  EXPECT_DOUBLE_EQ(facts[0].utilization, 0.75);
  EXPECT_DOUBLE_EQ(facts[0].power_watts, 350.5);
  EXPECT_EQ(facts[0].energy_joules, 0);  // this library has no such function
  const std::size_t first = facts[0].used_bytes;
  EXPECT_EQ(watch.facts()[0].used_bytes, first);  // not asked again within a second
  std::this_thread::sleep_for(1100ms);
  facts = watch.facts();
  EXPECT_LT(facts[0].used_bytes, first);
  EXPECT_EQ(facts[0].peak_bytes, first);
}

TEST(GpuWatch, FollowsTheVisibleDevices) {
  EXPECT_EQ(visible_gpu(3, nullptr), "3");
  EXPECT_EQ(visible_gpu(0, "5,2"), "5");
  EXPECT_EQ(visible_gpu(1, "5,2"), "2");
  EXPECT_EQ(visible_gpu(2, "5,2"), "");
  EXPECT_EQ(visible_gpu(0, ""), "");
  ::setenv("CUDA_VISIBLE_DEVICES", "GPU-bbbb", 1);
  GpuWatch watch(FAKE_NVML);
  watch.use("cuda");
  const auto facts = watch.facts();
  ::unsetenv("CUDA_VISIBLE_DEVICES");
  ASSERT_EQ(facts.size(), 1u);
  EXPECT_EQ(facts[0].index, "1");
}

}  // namespace
}  // namespace tandem::telemetry
