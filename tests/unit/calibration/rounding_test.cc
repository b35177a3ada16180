// Rounding for inputs against the same done slowly, and what it is worth.
#include "calibration/rounding.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "calibration/ranges.h"
#include "tandem/error.h"

namespace tandem::calibration {
namespace {

/// Rows of inputs that move together, as activations do.
std::vector<float> related_rows(std::size_t rows, std::size_t inputs, unsigned seed, std::size_t kinds = 6) {
  std::mt19937 random(seed), mixing(77);
  std::normal_distribution<float> normal;
  std::vector<float> mix(kinds * inputs), out;
  for (float& m : mix) m = normal(mixing);
  for (std::size_t r = 0; r < rows; ++r) {
    std::vector<float> kind(kinds);
    for (float& v : kind) v = normal(random);
    for (std::size_t i = 0; i < inputs; ++i) {
      float value = 0.1F * normal(random);
      for (std::size_t j = 0; j < kinds; ++j) value += kind[j] * mix[j * inputs + i];
      out.push_back(value * (i % 7 == 3 ? 5.0F : 1.0F));
    }
  }
  return out;
}

std::vector<float> normal_values(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 0.05F);
  std::vector<float> out(count);
  for (float& v : out) v = normal(random);
  return out;
}

std::vector<float> gram_of(const std::vector<float>& rows, std::size_t inputs) {
  std::vector<float> gram;
  add_to_gram(rows, inputs, gram);
  complete_gram(gram, inputs);
  return gram;
}

using Square = std::vector<std::vector<double>>;

/// By Gauss and Jordan.
Square inverse(Square a) {
  const std::size_t n = a.size();
  Square out(n, std::vector<double>(n));
  for (std::size_t i = 0; i < n; ++i) out[i][i] = 1;
  for (std::size_t p = 0; p < n; ++p) {
    std::size_t best = p;
    for (std::size_t i = p; i < n; ++i) best = std::abs(a[i][p]) > std::abs(a[best][p]) ? i : best;
    std::swap(a[p], a[best]), std::swap(out[p], out[best]);
    const double by = a[p][p];
    for (std::size_t j = 0; j < n; ++j) a[p][j] /= by, out[p][j] /= by;
    for (std::size_t i = 0; i < n; ++i) {
      const double times = i == p ? 0 : a[i][p];
      for (std::size_t j = 0; j < n; ++j) a[i][j] -= times * a[p][j], out[i][j] -= times * out[p][j];
    }
  }
  return out;
}

/// As the paper writes it down: one input after another, and after each the inverse of what the rest leaves of H.
Rounding slowly(Precision precision, const std::vector<float>& weight, std::size_t outputs,
                const std::vector<float>& gram) {
  const std::size_t n = weight.size() / outputs;
  Rounding out = round_to_nearest(precision, weight, outputs);
  double mean = 0;
  for (std::size_t i = 0; i < n; ++i) mean += gram[i * n + i] / static_cast<double>(n);
  std::vector<std::size_t> rest(n);
  std::iota(rest.begin(), rest.end(), std::size_t{0});
  std::ranges::stable_sort(rest, [&](std::size_t a, std::size_t b) { return gram[a * n + a] < gram[b * n + b]; });
  std::reverse(rest.begin(), rest.end());
  std::vector<double> w(weight.begin(), weight.end());
  while (!rest.empty()) {
    Square h(rest.size(), std::vector<double>(rest.size()));
    for (std::size_t i = 0; i < rest.size(); ++i) {
      for (std::size_t j = 0; j < rest.size(); ++j) h[i][j] = gram[rest[i] * n + rest[j]] + (i == j ? 0.01 * mean : 0);
    }
    const Square from = inverse(h);
    for (std::size_t o = 0; o < outputs; ++o) {
      double* row = w.data() + o * n;
      const float step = out.steps[o];
      const float value = in_eight_bits(precision, static_cast<float>(row[rest[0]]), step);
      const double off = (row[rest[0]] - value) / from[0][0];
      out.values[o * n + rest[0]] = value;
      for (std::size_t j = 1; j < rest.size(); ++j) row[rest[j]] -= off * from[0][j];
    }
    rest.erase(rest.begin());
  }
  return out;
}

class RoundingTest : public testing::TestWithParam<Precision> {};

TEST_P(RoundingTest, IsWhatThePaperSays) {
  // More inputs than a block, and not a multiple of one.
  for (const std::size_t inputs : {1, 5, 64, 97}) {
    const std::size_t outputs = 9;
    const auto weight = normal_values(outputs * inputs, 3);
    const auto gram = gram_of(related_rows(4 * inputs + 3, inputs, 5), inputs);
    const Rounding fast = round_for_inputs(GetParam(), weight, outputs, gram);
    const Rounding slow = slowly(GetParam(), weight, outputs, gram);
    ASSERT_EQ(fast.steps, slow.steps);
    std::size_t other = 0;
    for (std::size_t i = 0; i < weight.size(); ++i) other += fast.values[i] != slow.values[i] ? 1 : 0;
    // A number in the middle between two may go to either, and takes what follows with it.
    EXPECT_LE(other, weight.size() / 100) << inputs;
  }
}

TEST_P(RoundingTest, OutputsOfRowsThatItHasNotSeenAreNearer) {
  const std::size_t inputs = 160, outputs = 40;
  const auto weight = normal_values(outputs * inputs, 3);
  const auto gram = gram_of(related_rows(800, inputs, 5), inputs), others = related_rows(200, inputs, 6);
  const Rounding found = round_for_inputs(GetParam(), weight, outputs, gram);
  const Rounding nearest = round_to_nearest(GetParam(), weight, outputs);
  EXPECT_EQ(found.steps, nearest.steps);
  EXPECT_LT(output_error(weight, found.values, outputs, others),
            0.3 * output_error(weight, nearest.values, outputs, others));
  for (std::size_t i = 0; i < weight.size(); ++i) {
    const float step = found.steps[i / inputs];
    ASSERT_NEAR(found.values[i], in_eight_bits(GetParam(), found.values[i], step), 1e-6F * step);
    ASSERT_LE(std::abs(found.values[i]), largest(GetParam()) * step * 1.00001F);
  }
}

TEST_P(RoundingTest, InputsThatAreAlwaysZeroAndOutputsThatAreZero) {
  const std::size_t inputs = 20, outputs = 4;
  auto weight = normal_values(outputs * inputs, 3);
  std::fill_n(weight.begin() + 20, 20, 0.0F);
  auto rows = related_rows(60, inputs, 5);
  for (std::size_t r = 0; r < 60; ++r) rows[r * inputs + 7] = 0;
  const Rounding found = round_for_inputs(GetParam(), weight, outputs, gram_of(rows, inputs));
  EXPECT_EQ(found.steps[1], 0);
  for (std::size_t i = 0; i < inputs; ++i) EXPECT_EQ(found.values[inputs + i], 0);
  for (const float v : found.values) EXPECT_TRUE(std::isfinite(v));
  // Nothing known: the nearest.
  const std::vector<float> none(inputs * inputs);
  EXPECT_EQ(round_for_inputs(GetParam(), weight, outputs, none).values,
            round_to_nearest(GetParam(), weight, outputs).values);
  std::vector<float> broken(inputs * inputs, NAN);
  EXPECT_THROW(round_for_inputs(GetParam(), weight, outputs, broken), Error);
}

TEST(Gram, IsTheSumOverAllRows) {
  const std::vector<float> rows{1, 2, 3, -1, 0.5F, 4};
  std::vector<float> gram;
  add_to_gram({rows.data(), 3}, 3, gram), add_to_gram({rows.data() + 3, 3}, 3, gram);
  complete_gram(gram, 3);
  for (std::size_t i = 0; i < 3; ++i) {
    for (std::size_t j = 0; j < 3; ++j) EXPECT_FLOAT_EQ(gram[i * 3 + j], rows[i] * rows[j] + rows[3 + i] * rows[3 + j]);
  }
}

INSTANTIATE_TEST_SUITE_P(Every, RoundingTest, testing::Values(Precision::int8, Precision::fp8));

}  // namespace
}  // namespace tandem::calibration
