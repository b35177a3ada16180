// The range that one scale for all of a tensor should cover: what is beyond it is cut, what is inside has wider steps
// the wider it is.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tandem/types.h"

namespace tandem::calibration {

/// What a value becomes: value / step to the nearest number of int8's (whole, up to 127) or of fp8's (E4M3, up to 448),
/// times step. step > 0.
float in_eight_bits(Precision precision, float value, float step) noexcept;
/// 127 or 448.
float largest(Precision precision) noexcept;
/// A row whose largest magnitude is no larger is one of zeros.
inline constexpr float kSmallestTop = 1e-30F;
/// The step that makes a row's largest magnitude the largest number; 0 for a row of zeros.
float step_of(Precision precision, std::span<const float> row) noexcept;

/// How often which magnitude came: bins as wide as the 128th of a power of two. Counts are exact, so that the order of
/// what comes makes no difference.
class Magnitudes {
 public:
  Magnitudes() : bins_(kBins) {}
  void add(std::span<const float> values) noexcept;  ///< what is not finite is left out
  float top() const noexcept { return top_; }        ///< the largest magnitude so far
  /// The magnitude that a share of the values (0 to 1) is at or below, as the upper end of its bin.
  float percentile(double share) const noexcept;
  /// What eight bits with this step cost: the squared errors' share of the squares, its root. 0 without values.
  double error(Precision precision, float step) const noexcept;

 private:
  static constexpr std::size_t kBins = 255 << 7;  // of the exponents of finite numbers
  std::vector<std::uint64_t> bins_;
  std::uint64_t count_ = 0;
  float top_ = 0;
};

/// The same for rows that have a scale each, the row's largest magnitude.
class RowErrors {
 public:
  /// Rows of `width` values.
  void add(Precision precision, std::span<const float> values, std::size_t width);
  double error() const noexcept;

 private:
  double errors_ = 0, squares_ = 0;
};

struct Range {
  float step = 0;    ///< 0: a scale per row
  std::string name;  ///< "row", "abs-max", "p99.99", "p99.9" or "mse"
  double error = 0;
};

/// The range with the least error of these: the largest magnitude, the 99.99th and the 99.9th percentile, and the best
/// of 65 that halve eight times (mse). One that is at most a 50th worse than the best but wider is preferred: data that
/// was not seen may be larger. rows: the error of a scale per row; null where there is no such choice.
Range choose_range(Precision precision, const Magnitudes& values, const RowErrors* rows);

}  // namespace tandem::calibration
