#include "calibration/ranges.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "tensor/e4m3.h"

namespace tandem::calibration {
namespace {

constexpr unsigned kShift = 16;  // of a float's 23 bits of fraction seven tell bins apart
constexpr int kPoints = 4;       // of a bin that errors are computed at

float edge(std::size_t bin) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bin) << kShift);
}

}  // namespace

float largest(Precision precision) noexcept {
  return precision == Precision::fp8 ? kLargestE4m3 : 127;
}

float step_of(Precision precision, std::span<const float> row) noexcept {
  float top = 0;
  for (const float value : row) top = std::max(top, std::abs(value));
  return top > kSmallestTop ? top / largest(precision) : 0;
}

float in_eight_bits(Precision precision, float value, float step) noexcept {
  const float scaled = value / step;
  if (precision == Precision::fp8) return round_to_e4m3(scaled) * step;
  return std::clamp(std::nearbyint(scaled), -127.0F, 127.0F) * step;
}

void Magnitudes::add(std::span<const float> values) noexcept {
  for (const float value : values) {
    const float size = std::abs(value);
    const std::size_t bin = std::bit_cast<std::uint32_t>(size) >> kShift;
    if (bin >= kBins) continue;
    ++bins_[bin];
    ++count_;
    top_ = std::max(top_, size);
  }
}

float Magnitudes::percentile(double share) const noexcept {
  const auto wanted = static_cast<std::uint64_t>(std::ceil(share * static_cast<double>(count_)));
  std::uint64_t seen = 0;
  for (std::size_t bin = 0; bin < kBins; ++bin) {
    seen += bins_[bin];
    if (bins_[bin] > 0 && seen >= wanted) return std::min(edge(bin + 1), top_);
  }
  return top_;
}

double Magnitudes::error(Precision precision, float step) const noexcept {
  double errors = 0, squares = 0;
  for (std::size_t bin = 0; bin < kBins; ++bin) {
    if (bins_[bin] == 0) continue;
    const float low = edge(bin), wide = std::min(edge(bin + 1), top_) - low;
    const double each = static_cast<double>(bins_[bin]) / kPoints;
    for (int i = 0; i < kPoints; ++i) {
      const float value = low + wide * (static_cast<float>(i) + 0.5F) / kPoints;
      const double off = static_cast<double>(in_eight_bits(precision, value, step)) - value;
      errors += each * off * off, squares += each * static_cast<double>(value) * value;
    }
  }
  return squares > 0 ? std::sqrt(errors / squares) : 0;
}

void RowErrors::add(Precision precision, std::span<const float> values, std::size_t width) {
  for (std::size_t at = 0; at + width <= values.size(); at += width) {
    const auto row = values.subspan(at, width);
    const float step = step_of(precision, row);
    if (!(step > 0) || !std::isfinite(step)) continue;
    for (const float value : row) {
      const double off = static_cast<double>(in_eight_bits(precision, value, step)) - value;
      errors_ += off * off, squares_ += static_cast<double>(value) * value;
    }
  }
}

double RowErrors::error() const noexcept {
  return squares_ > 0 ? std::sqrt(errors_ / squares_) : 0;
}

Range choose_range(Precision precision, const Magnitudes& values, const RowErrors* rows) {
  constexpr double kNearly = 1.02;
  const float top = values.top(), most = largest(precision);
  if (!(top > kSmallestTop)) return {0, "row", 0};  // nothing came: the default
  std::vector<Range> ranges;
  const auto offer = [&](const char* name, float range) {
    const float step = std::max(range, kSmallestTop) / most;
    ranges.push_back({step, name, values.error(precision, step)});
  };
  offer("abs-max", top), offer("p99.99", values.percentile(0.9999)), offer("p99.9", values.percentile(0.999));
  for (int i = 0; i <= 64; ++i) offer("mse", top * std::exp2(-static_cast<float>(i) / 8));
  const auto less = [](const Range& a, const Range& b) { return a.error < b.error; };
  const double best = std::min_element(ranges.begin(), ranges.end(), less)->error;
  const Range* chosen = &ranges.front();
  for (const Range& r : ranges) {
    const bool fits = r.error <= kNearly * best, had = chosen->error <= kNearly * best;
    if (fits && (!had || r.step > chosen->step)) chosen = &r;
  }
  if (rows != nullptr && rows->error() <= chosen->error) return {0, "row", rows->error()};
  return *chosen;
}

}  // namespace tandem::calibration
