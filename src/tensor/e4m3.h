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

/// The number that a byte is; 0x7f and 0xff are NaN.
inline float e4m3_value(std::uint8_t code) noexcept {
  const unsigned exponent = (code >> 3U) & 15U, fraction = code & 7U;
  const float size = exponent == 15 && fraction == 7 ? NAN
                     : exponent == 0                 ? static_cast<float>(fraction) * 0x1p-9F
                                     : std::ldexp(static_cast<float>(8 + fraction), static_cast<int>(exponent) - 10);
  return (code & 0x80U) != 0 ? -size : size;
}

/// The byte of the nearest E4M3 number, as round_to_e4m3() has it.
inline std::uint8_t e4m3_code(float x) noexcept {
  const unsigned sign = std::signbit(x) ? 0x80U : 0U;
  if (std::isnan(x)) return static_cast<std::uint8_t>(sign | 0x7fU);
  const float size = std::abs(round_to_e4m3(x));
  if (size < 0x1p-6F) return static_cast<std::uint8_t>(sign | static_cast<unsigned>(size * 512));
  const auto bits = std::bit_cast<std::uint32_t>(size);
  return static_cast<std::uint8_t>(sign | (((bits >> 23U) - 120U) << 3U) | ((bits >> 20U) & 7U));
}

}  // namespace tandem
