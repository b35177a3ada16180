// Element types and devices of tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "tandem/error.h"

namespace tandem {

enum class DType : std::uint8_t { f32, f16, bf16, f8e4m3, i8, u8, i32, i64 };

constexpr std::size_t size_of(DType type) noexcept {
  switch (type) {
    case DType::i64: return 8;
    case DType::f32:
    case DType::i32: return 4;
    case DType::f16:
    case DType::bf16: return 2;
    case DType::f8e4m3:
    case DType::i8:
    case DType::u8: return 1;
  }
  return 0;
}

/// "F32", "BF16", … as safetensors writes them.
std::string_view to_string(DType type) noexcept;

/// IEEE half and bfloat16 as stored; arithmetic happens in float. Conversions round to nearest even.
float half_to_float(std::uint16_t bits) noexcept;
std::uint16_t float_to_half(float value) noexcept;
constexpr float bfloat16_to_float(std::uint16_t bits) noexcept {
  return __builtin_bit_cast(float, static_cast<std::uint32_t>(bits) << 16);
}
constexpr std::uint16_t float_to_bfloat16(float value) noexcept {
  const auto bits = __builtin_bit_cast(std::uint32_t, value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);  // NaN stays NaN
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

}  // namespace tandem
