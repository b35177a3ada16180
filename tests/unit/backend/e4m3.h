// Numbers of E4M3 on the host, rounded and read by their definition.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace tandem::backend::test {

inline constexpr float kLargestE4m3 = 448;

/// The nearest value of E4M3 (steps of 2^-3 of the leading bit, 2^-9 below 2^-6), ties to even; at most 448.
inline float nearest_e4m3(float v) {
  const float a = std::min(std::abs(v), kLargestE4m3);
  const int exponent = a < 0x1p-6F ? -6 : std::ilogb(a);
  const float step = std::ldexp(1.0F, exponent - 3);
  return std::copysign(std::nearbyint(a / step) * step, v);
}
inline float from_e4m3(std::uint8_t bits) {
  const int exponent = bits >> 3 & 15, fraction = bits & 7;
  if (exponent == 15 && fraction == 7) return std::numeric_limits<float>::quiet_NaN();
  const float v = exponent == 0 ? std::ldexp(static_cast<float>(fraction), -9)
                                : std::ldexp(static_cast<float>(8 + fraction), exponent - 10);
  return (bits & 128) != 0 ? -v : v;
}

}  // namespace tandem::backend::test
