#include "telemetry/time_histogram.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <thread>

namespace tandem::telemetry {
namespace {

TEST(TimeHistogram, EveryBucketBeginsWhereTheOneBeforeEnds) {
  for (std::size_t i = 0; i < TimeHistogram::kBuckets; ++i) {
    const double begin = TimeHistogram::lower(i), end = TimeHistogram::lower(i + 1);
    EXPECT_LT(begin, end);
    EXPECT_EQ(TimeHistogram::index((begin + end) / 2), i) << begin;
    EXPECT_EQ(TimeHistogram::index(end - (end - begin) / 100), i) << begin;
    if (i >= TimeHistogram::kPerOctave) {
      EXPECT_LE((end - begin) / begin, 1.0 / 16 + 1e-12);
    }
  }
}

TEST(TimeHistogram, WhatLiesOutsideCountsInTheOutermost) {
  EXPECT_EQ(TimeHistogram::index(-1), 0u);
  EXPECT_EQ(TimeHistogram::index(std::nan("")), 0u);
  EXPECT_EQ(TimeHistogram::index(0), 0u);
  EXPECT_EQ(TimeHistogram::index(1e9), TimeHistogram::kBuckets - 1);
  EXPECT_EQ(TimeHistogram::index(INFINITY), TimeHistogram::kBuckets - 1);
}

TEST(TimeHistogram, PercentilesAreNearTheTruth) {
  std::mt19937 dice(7);
  std::lognormal_distribution<double> times(std::log(0.004), 1.0);
  TimeHistogram histogram;
  std::vector<double> all(20'000);
  double sum = 0;
  for (double& t : all) {
    t = times(dice);
    sum += t;
    histogram.record(t);
  }
  std::sort(all.begin(), all.end());
  const TimeCounts counts = histogram.counts();
  EXPECT_EQ(counts.count, all.size());
  EXPECT_NEAR(counts.seconds, sum, 1e-4 * sum);
  for (const double q : {0.01, 0.5, 0.95, 0.99}) {
    const double truth = all[static_cast<std::size_t>(q * static_cast<double>(all.size()))];
    EXPECT_NEAR(counts.quantile(q), truth, truth / 16) << q;
  }
}

TEST(TimeHistogram, BoundsForPrometheusCountExactly) {
  TimeHistogram histogram;
  for (const double t : {10e-6, 17e-6, 25e-6, 1.0, 500.0}) histogram.record(t);
  const auto bounds = histogram.counts().bounds();
  EXPECT_DOUBLE_EQ(bounds[0].seconds, 16e-6);
  EXPECT_EQ(bounds[0].cumulative, 1u);
  EXPECT_DOUBLE_EQ(bounds[1].seconds, 24e-6);
  EXPECT_EQ(bounds[1].cumulative, 2u);
  EXPECT_EQ(bounds[2].cumulative, 3u);
  EXPECT_NEAR(bounds.back().seconds, 134.2, 0.1);
  EXPECT_EQ(bounds.back().cumulative, 4u);
  for (std::size_t i = 1; i < bounds.size(); ++i) {
    EXPECT_LT(bounds[i - 1].seconds, bounds[i].seconds);
    EXPECT_LE(bounds[i - 1].cumulative, bounds[i].cumulative);
  }
}

TEST(TimeHistogram, NothingIsLostBetweenThreads) {
  TimeHistogram histogram;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 10'000; ++n) histogram.record(1e-3);
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(histogram.counts().count, 40'000u);
  EXPECT_NEAR(histogram.counts().seconds, 40, 1e-6);
}

TEST(TimeHistogram, CountsAddUp) {
  TimeHistogram a, b;
  a.record(1), b.record(2), b.record(3);
  TimeCounts sum;
  sum.add(a.counts()), sum.add(b.counts()), sum.add({});
  EXPECT_EQ(sum.count, 3u);
  EXPECT_NEAR(sum.mean(), 2, 1e-9);
}

TEST(RecentHistogram, ForgetsAfterAMinute) {
  RecentHistogram histogram;
  EXPECT_EQ(histogram.counts(1).count, 0u);
  histogram.record(0.1, 1);
  histogram.record(0.1, 15);
  EXPECT_EQ(histogram.counts(16).count, 2u);
  EXPECT_EQ(histogram.counts(69).count, 2u);
  EXPECT_EQ(histogram.counts(71).count, 1u);
  EXPECT_EQ(histogram.counts(85).count, 0u);
  histogram.record(0.1, 151);  // the slice of second 15, used again
  EXPECT_EQ(histogram.counts(152).count, 1u);
}

TEST(RecentHistogram, SaysOfHowManySecondsItIs) {
  RecentHistogram histogram;
  constexpr double kPerSecond = 20;
  for (int i = 0; i < 200 * static_cast<int>(kPerSecond); ++i) {
    const double now = (i + 1) / kPerSecond;
    histogram.record(0.1, now);
    if (now < 1) continue;
    // An even stream has the same rate at every moment.
    const double rate = static_cast<double>(histogram.counts(now).count) / RecentHistogram::seconds(now);
    ASSERT_NEAR(rate, kPerSecond, 0.05 * kPerSecond) << now;
  }
}

}  // namespace
}  // namespace tandem::telemetry
