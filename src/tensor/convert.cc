// Conversions between stored types, as loops without branches that compilers turn into vector instructions. Each is
// compiled twice, for AVX2 and for any x86-64; which one runs is asked of the processor. Both give the bits of the
// scalar functions in dtype.h, for every input.
#include <algorithm>
#include <cstring>

#include "base/strings.h"
#include "tensor/tensor.h"

namespace tandem {
namespace {

#define TANDEM_INLINE __attribute__((always_inline)) inline

TANDEM_INLINE void halves_to_floats(const std::uint16_t* from, float* to, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const std::uint32_t magnitude = from[i] & 0x7fffu, shifted = magnitude << 13;
    const std::uint32_t normal = shifted + 0x38000000u, not_finite = shifted | 0x7f800000u;
    // 2^-14 (1 + m / 1024) - 2^-14: exact, and no operand is a slow subnormal float.
    const float subnormal = __builtin_bit_cast(float, shifted + 0x38800000u) - 0x1p-14F;
    std::uint32_t bits = magnitude < 0x400u ? __builtin_bit_cast(std::uint32_t, subnormal) : normal;
    bits = magnitude >= 0x7c00u ? not_finite : bits;
    bits |= static_cast<std::uint32_t>(from[i] & 0x8000u) << 16;
    to[i] = __builtin_bit_cast(float, bits);
  }
}

TANDEM_INLINE void bfloats_to_floats(const std::uint16_t* from, float* to, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) to[i] = __builtin_bit_cast(float, static_cast<std::uint32_t>(from[i]) << 16);
}

TANDEM_INLINE void floats_to_bfloats(const float* from, std::uint16_t* to, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const auto bits = __builtin_bit_cast(std::uint32_t, from[i]);
    const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16, quiet = (bits >> 16) | 0x40u;
    to[i] = static_cast<std::uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
  }
}

struct Loops {
  void (*halves_to_floats)(const std::uint16_t*, float*, std::int64_t);
  void (*bfloats_to_floats)(const std::uint16_t*, float*, std::int64_t);
  void (*floats_to_bfloats)(const float*, std::uint16_t*, std::int64_t);
};

#if defined(__x86_64__)
__attribute__((target("avx2"))) void halves_avx2(const std::uint16_t* from, float* to, std::int64_t n) {
  halves_to_floats(from, to, n);
}
__attribute__((target("avx2"))) void bfloats_avx2(const std::uint16_t* from, float* to, std::int64_t n) {
  bfloats_to_floats(from, to, n);
}
__attribute__((target("avx2"))) void floats_avx2(const float* from, std::uint16_t* to, std::int64_t n) {
  floats_to_bfloats(from, to, n);
}
#endif

void halves_any(const std::uint16_t* from, float* to, std::int64_t n) {
  halves_to_floats(from, to, n);
}
void bfloats_any(const std::uint16_t* from, float* to, std::int64_t n) {
  bfloats_to_floats(from, to, n);
}
void floats_any(const float* from, std::uint16_t* to, std::int64_t n) {
  floats_to_bfloats(from, to, n);
}

Loops loops(bool plain) {
#if defined(__x86_64__)
  if (!plain && __builtin_cpu_supports("avx2")) return {halves_avx2, bfloats_avx2, floats_avx2};
#endif
  (void)plain;
  return {halves_any, bfloats_any, floats_any};
}

bool is_float(DType t) {
  return t == DType::f32 || t == DType::f16 || t == DType::bf16;
}

/// `n` elements of another type than float32, as float32.
void load(const Loops& l, DType type, const std::byte* from, float* to, std::int64_t n) {
  const auto* bits = reinterpret_cast<const std::uint16_t*>(from);
  (type == DType::f16 ? l.halves_to_floats : l.bfloats_to_floats)(bits, to, n);
}

void store(const Loops& l, DType type, const float* from, std::byte* to, std::int64_t n) {
  auto* bits = reinterpret_cast<std::uint16_t*>(to);
  if (type == DType::bf16) return l.floats_to_bfloats(from, bits, n);
  for (std::int64_t i = 0; i < n; ++i) bits[i] = float_to_half(from[i]);  // nothing of speed stores halves
}

void convert_row(const Loops& l, DType from_type, const std::byte* from, DType to_type, std::byte* to, std::int64_t n) {
  if (to_type == DType::f32) return load(l, from_type, from, reinterpret_cast<float*>(to), n);
  if (from_type == DType::f32) return store(l, to_type, reinterpret_cast<const float*>(from), to, n);
  constexpr std::int64_t kPiece = 256;
  float piece[kPiece];
  for (std::int64_t i = 0; i < n; i += kPiece) {
    const std::int64_t count = std::min(kPiece, n - i);
    load(l, from_type, from + i * 2, piece, count);
    store(l, to_type, piece, to + i * 2, count);
  }
}

}  // namespace

void convert(ConstView from, View to, bool plain) {
  if (from.shape.elements() != to.shape.elements() || from.columns() != to.columns()) {
    throw Error(Code::internal, cat("convert: ", to_string(from.shape), " into ", to_string(to.shape)));
  }
  if (from.dtype != to.dtype && !(is_float(from.dtype) && is_float(to.dtype))) {
    throw Error(Code::internal, cat("convert: from ", to_string(from.dtype), " to ", to_string(to.dtype)));
  }
  const Loops l = loops(plain);
  const auto from_size = static_cast<std::int64_t>(size_of(from.dtype));
  const auto to_size = static_cast<std::int64_t>(size_of(to.dtype));
  // Dense matrices are one long row.
  const bool dense = from.contiguous() && to.contiguous();
  const std::int64_t rows = dense ? 1 : from.rows(), columns = dense ? from.shape.elements() : from.columns();
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::byte* source = from.data + r * from.stride * from_size;
    std::byte* target = to.data + r * to.stride * to_size;
    if (from.dtype == to.dtype) {
      if (columns > 0) std::memcpy(target, source, static_cast<std::size_t>(columns * from_size));
    } else {
      convert_row(l, from.dtype, source, to.dtype, target, columns);
    }
  }
}

}  // namespace tandem
