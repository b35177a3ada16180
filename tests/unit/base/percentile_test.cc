#include "base/percentile.h"

#include <gtest/gtest.h>

#include <vector>

namespace tandem {
namespace {

TEST(Percentile, IsTheSmallestValueThatTheShareDoesNotExceed) {
  std::vector<float> values;
  EXPECT_EQ(percentile(values, 0.5), 0);
  for (int i = 1; i <= 100; ++i) values.push_back(static_cast<float>(i));
  EXPECT_EQ(percentile(values, 0), 1);
  EXPECT_EQ(percentile(values, 0.5), 50);
  EXPECT_EQ(percentile(values, 0.99), 99);
  EXPECT_EQ(percentile(values, 0.991), 100);
  EXPECT_EQ(percentile(values, 1), 100);
  EXPECT_EQ(percentile({7}, 0.01), 7);
}

TEST(Percentile, AShareThatIsAWholeRankIsNotRoundedUp) {
  std::vector<float> values;
  for (int i = 1; i <= 20; ++i) values.push_back(static_cast<float>(i));
  EXPECT_EQ(percentile(values, 0.55), 11);  // 0.55 * 20 is 11.000000000000002 in doubles
}

}  // namespace
}  // namespace tandem
