// Every x86-64 processor runs this one; see kernels.h for what may be included here.
#include <immintrin.h>

#include "backend/cpu/kernels.h"

#define TANDEM_ISA_NAME "sse2"
#define TANDEM_BF16 0
#define TANDEM_MAX_ROWS 4
#define TANDEM_PANEL_VECTORS 2

namespace tandem::backend::cpu {
namespace {

constexpr int kWidth = 4, kPanel = kWidth * TANDEM_PANEL_VECTORS;
struct V {
  __m128 v;
};
inline V operator+(V a, V b) {
  return {_mm_add_ps(a.v, b.v)};
}
inline V operator-(V a, V b) {
  return {_mm_sub_ps(a.v, b.v)};
}
inline V operator*(V a, V b) {
  return {_mm_mul_ps(a.v, b.v)};
}
inline V operator/(V a, V b) {
  return {_mm_div_ps(a.v, b.v)};
}
inline V set1(float x) {
  return {_mm_set1_ps(x)};
}
inline V reciprocal(V a) {
  return set1(1.0F) / a;
}
inline V fma(V a, V b, V c) {
  return {_mm_add_ps(_mm_mul_ps(a.v, b.v), c.v)};
}
inline V fnma(V a, V b, V c) {
  return {_mm_sub_ps(c.v, _mm_mul_ps(a.v, b.v))};
}
/// Where one is NaN, the result is the second.
inline V vmin(V a, V b) {
  return {_mm_min_ps(a.v, b.v)};
}
inline V vmax(V a, V b) {
  return {_mm_max_ps(a.v, b.v)};
}
inline V vabs(V a) {
  return {_mm_andnot_ps(_mm_set1_ps(-0.0F), a.v)};
}
/// For |a| < 2^31, which is all that is asked.
inline V nearest(V a) {
  return {_mm_cvtepi32_ps(_mm_cvtps_epi32(a.v))};
}
/// a 2^n for whole n in [-126, 127]
inline V times_pow2(V a, V n) {
  const __m128i exponent = _mm_add_epi32(_mm_cvtps_epi32(n.v), _mm_set1_epi32(127));
  return {_mm_mul_ps(a.v, _mm_castsi128_ps(_mm_slli_epi32(exponent, 23)))};
}
inline float sum_of(V a) {
  const __m128 s = _mm_add_ps(a.v, _mm_movehl_ps(a.v, a.v));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
}
inline float max_of(V a) {
  const __m128 s = _mm_max_ps(a.v, _mm_movehl_ps(a.v, a.v));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_shuffle_ps(s, s, 1)));
}
inline V load(const float* p) {
  return {_mm_loadu_ps(p)};
}
inline void store(float* p, V a) {
  _mm_storeu_ps(p, a.v);
}
/// The first min(n, 4) elements; zero beyond.
inline V load_some(const float* p, std::int64_t n) {
  if (n >= kWidth) return load(p);
  float x[kWidth] = {};
  for (std::int64_t i = 0; i < n; ++i) x[i] = p[i];
  return load(x);
}
inline void store_some(float* p, V a, std::int64_t n) {
  if (n >= kWidth) return store(p, a);
  float x[kWidth];
  store(x, a);
  for (std::int64_t i = 0; i < n; ++i) p[i] = x[i];
}
inline V keep_some(V a, std::int64_t n) {
  float x[kWidth];
  store(x, a);
  for (std::int64_t i = n; i < kWidth; ++i) x[i] = 0;
  return load(x);
}
inline V from_int(V bits) {
  return {_mm_cvtepi32_ps(_mm_castps_si128(bits.v))};
}

/// Whole vectors of rounded values from element i of a row on, of every four in the order 0, 2, 1, 3.
inline void store_quantised(void* row, std::int64_t i, V a) {
  const __m128i values = _mm_cvtps_epi32(a.v);
  const __m128i out = _mm_shufflelo_epi16(_mm_packs_epi32(values, values), 0xd8);
  _mm_storel_epi64(reinterpret_cast<__m128i*>(static_cast<char*>(row) + 2 * i), out);
}

using Bits = __m128i;
inline Bits load_bits(const float* p) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}
/// The same 32 bits in every lane.
inline Bits set_bits(int a) {
  return _mm_set1_epi32(a);
}
/// Bytes 0, 2, 4 … with their signs, in sixteen bits each.
inline Bits even_bytes(Bits a) {
  return _mm_srai_epi16(_mm_slli_epi16(a, 8), 8);
}
inline Bits odd_bytes(Bits a) {
  return _mm_srai_epi16(a, 8);
}
inline Bits multiply_pairs(Bits a, Bits b) {
  return _mm_madd_epi16(a, b);
}
inline V add_bits(V sum, Bits a, Bits b) {
  return {_mm_castsi128_ps(_mm_add_epi32(_mm_castps_si128(sum.v), _mm_add_epi32(a, b)))};
}

#include "backend/cpu/int8_pairs.inc"

inline V load_bf16_some(const std::uint16_t*, std::int64_t) {
  return set1(0.0F);
}
inline void store_bf16_some(std::uint16_t*, V, std::int64_t) {}

#include "backend/cpu/transpose.inc"

// The shared bodies, over V.
#include "backend/cpu/table.inc"
}  // namespace

const Kernels& sse2_kernels() {
  return kTable;
}

}  // namespace tandem::backend::cpu
