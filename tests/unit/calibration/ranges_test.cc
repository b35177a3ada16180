// Ranges against plain loops over the values, and the factors of a migration by hand.
#include "calibration/ranges.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "calibration/migration.h"
#include "tensor/e4m3.h"

namespace tandem::calibration {
namespace {

/// Every E4M3 number by its definition: 2^(e - 7) (1 + f / 8), and f / 8 2^-6 for e = 0; all ones is NaN.
std::vector<float> all_e4m3() {
  std::vector<float> numbers;
  for (int bits = 0; bits < 0x7f; ++bits) {
    const int e = bits >> 3, f = bits & 7;
    numbers.push_back(e == 0 ? std::ldexp(static_cast<float>(f), -9) : std::ldexp(static_cast<float>(8 + f), e - 10));
  }
  return numbers;
}

TEST(E4m3, IsTheNearestOfItsNumbers) {
  const auto numbers = all_e4m3();
  EXPECT_EQ(numbers.back(), kLargestE4m3);
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    EXPECT_EQ(round_to_e4m3(numbers[i]), numbers[i]);
    EXPECT_EQ(round_to_e4m3(-numbers[i]), -numbers[i]);
    if (i == 0) continue;
    const float middle = (numbers[i - 1] + numbers[i]) / 2;
    EXPECT_EQ(round_to_e4m3(std::nextafter(middle, 0.0F)), numbers[i - 1]);
    EXPECT_EQ(round_to_e4m3(std::nextafter(middle, 1e9F)), numbers[i]);
    EXPECT_EQ(round_to_e4m3(middle), numbers[i % 2 == 0 ? i : i - 1]);  // the even one: its code ends in 0
  }
  EXPECT_EQ(round_to_e4m3(1e30F), kLargestE4m3);
  EXPECT_EQ(round_to_e4m3(-std::numeric_limits<float>::infinity()), -kLargestE4m3);
  EXPECT_TRUE(std::isnan(round_to_e4m3(NAN)));
}

std::vector<float> normal(std::size_t count, unsigned seed, float deviation = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> distribution(0, deviation);
  std::vector<float> values(count);
  for (float& v : values) v = distribution(random);
  return values;
}

double plain_error(Precision p, const std::vector<float>& values, float step) {
  double errors = 0, squares = 0;
  for (const float v : values) {
    errors += std::pow(static_cast<double>(in_eight_bits(p, v, step)) - v, 2), squares += static_cast<double>(v) * v;
  }
  return std::sqrt(errors / squares);
}

TEST(Magnitudes, ErrorsAndPercentilesAreThoseOfTheValues) {
  const auto values = normal(40000, 1);
  Magnitudes m;
  m.add(std::span(values).first(17)), m.add(std::span(values).subspan(17));
  std::vector<float> sizes;
  for (const float v : values) sizes.push_back(std::abs(v));
  std::ranges::sort(sizes);
  EXPECT_EQ(m.top(), sizes.back());
  for (const double share : {0.5, 0.9, 0.999, 0.9999}) {
    const double want = sizes[static_cast<std::size_t>(share * 40000) - 1];
    EXPECT_NEAR(m.percentile(share), want, want / 100) << share;
  }
  for (const Precision p : {Precision::int8, Precision::fp8}) {
    for (const float range : {sizes.back(), 3.0F, 1.0F, 0.1F}) {
      const float step = range / largest(p);
      EXPECT_NEAR(m.error(p, step), plain_error(p, values, step), 0.02 * plain_error(p, values, step)) << range;
    }
  }
}

TEST(Magnitudes, WhatIsNotFiniteIsLeftOut) {
  Magnitudes m;
  m.add(std::vector<float>{NAN, INFINITY, -2, 0});
  EXPECT_EQ(m.top(), 2);
  EXPECT_EQ(choose_range(Precision::int8, Magnitudes(), nullptr).step, 0);
}

TEST(ChooseRange, NormalValuesAreCutALittleBeyondWhatPays) {
  Magnitudes m;
  const auto values = normal(100000, 2);
  m.add(values);
  const Range range = choose_range(Precision::int8, m, nullptr);
  EXPECT_LE(range.error, 1.02 * m.error(Precision::int8, m.top() / 127));
  // The best range of a normal distribution in int8 is near four deviations.
  EXPECT_GT(range.step * 127, 3.4F);
  EXPECT_LT(range.step * 127, 4.8F);
}

TEST(ChooseRange, OneValueFarAwayDoesNotSetTheScale) {
  Magnitudes m;
  auto values = normal(200000, 3);
  values[77] = 60;
  m.add(values);
  const Range range = choose_range(Precision::int8, m, nullptr);
  EXPECT_NE(range.name, "abs-max");
  EXPECT_LT(range.error, 0.8 * m.error(Precision::int8, m.top() / 127));
  // E4M3 has steps that grow with the value: the largest one costs nothing, and is preferred.
  EXPECT_EQ(choose_range(Precision::fp8, m, nullptr).step, 60.0F / 448);
}

TEST(ChooseRange, RowsOfVerySizesHaveAScaleEach) {
  Magnitudes m;
  RowErrors rows;
  for (unsigned row = 0; row < 64; ++row) {
    const auto values = normal(128, row, std::exp2(static_cast<float>(row % 8)));
    m.add(values), rows.add(Precision::int8, values, 128);
  }
  const Range range = choose_range(Precision::int8, m, &rows);
  EXPECT_EQ(range.name, "row");
  EXPECT_EQ(range.step, 0);
  EXPECT_EQ(range.error, rows.error());
  EXPECT_LT(range.error, choose_range(Precision::int8, m, nullptr).error);
}

TEST(RowErrors, AreThoseOfEveryRowsOwnScale) {
  const std::vector<float> values{1, 0.5F, -0.25F, 100, 1, 0, 0, 0, 0};
  RowErrors rows;
  rows.add(Precision::int8, values, 3);
  double errors = 0, squares = 0;
  for (const auto& [row, top] : {std::pair{0, 1.0F}, std::pair{3, 100.0F}}) {
    for (int i = row; i < row + 3; ++i) {
      const float v = values[static_cast<std::size_t>(i)];
      errors += std::pow(static_cast<double>(in_eight_bits(Precision::int8, v, top / 127)) - v, 2);
      squares += static_cast<double>(v) * v;
    }
  }
  EXPECT_NEAR(rows.error(), std::sqrt(errors / squares), 1e-9);
}

TEST(Migration, FactorsByHand) {
  const auto factors = migration_factors({4, 100, 0}, {1, 0.25F, 1}, 0.5);
  EXPECT_FLOAT_EQ(factors[0], 2);      // sqrt(4) / sqrt(1)
  EXPECT_FLOAT_EQ(factors[1], 20);     // sqrt(100) / sqrt(0.25)
  EXPECT_FLOAT_EQ(factors[2], 1e-4F);  // nothing comes there: any factor will do
  EXPECT_FLOAT_EQ(migration_factors({4}, {2}, 1)[0], 4);
}

}  // namespace
}  // namespace tandem::calibration
