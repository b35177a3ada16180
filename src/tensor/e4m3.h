// E4M3, the eight-bit float of fp8: one bit of sign, four of exponent, three of fraction (Micikevicius et al. 2022).
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

namespace tandem {

constexpr float kLargestE4m3 = 448;

/// The nearest E4M3 number, even fractions first; what is larger becomes 448. NaN stays NaN.
inline float round_to_e4m3(float x) noexcept {
  if (std::isnan(x)) return x;
  const float size = std::min(std::abs(x), kLargestE4m3);
  if (size < 0x1p-6F) return std::copysign(std::nearbyint(size * 512) / 512, x);  // subnormal: steps of 2^-9
  auto bits = std::bit_cast<std::uint32_t>(size);
  bits += 0x7ffffU + ((bits >> 20U) & 1U);  // of 23 bits of fraction three stay
  return std::copysign(std::bit_cast<float>(bits & ~0xfffffU), x);
}

}  // namespace tandem
