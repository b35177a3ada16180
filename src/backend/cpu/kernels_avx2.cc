// Compiled with AVX2 and FMA; see kernels.h for what may be included here.
#include <immintrin.h>

#include "backend/cpu/kernels.h"

#define TANDEM_ISA_NAME "avx2"
#define TANDEM_BF16 0
#define TANDEM_MAX_ROWS 6
#define TANDEM_PANEL_VECTORS 2

namespace tandem::backend::cpu {
namespace {

constexpr int kWidth = 8, kPanel = kWidth * TANDEM_PANEL_VECTORS;
struct V {
  __m256 v;
};
inline V operator+(V a, V b) {
  return {_mm256_add_ps(a.v, b.v)};
}
inline V operator-(V a, V b) {
  return {_mm256_sub_ps(a.v, b.v)};
}
inline V operator*(V a, V b) {
  return {_mm256_mul_ps(a.v, b.v)};
}
inline V operator/(V a, V b) {
  return {_mm256_div_ps(a.v, b.v)};
}
inline V set1(float x) {
  return {_mm256_set1_ps(x)};
}
inline V reciprocal(V a) {
  return set1(1.0F) / a;
}
inline V fma(V a, V b, V c) {
  return {_mm256_fmadd_ps(a.v, b.v, c.v)};
}
inline V fnma(V a, V b, V c) {
  return {_mm256_fnmadd_ps(a.v, b.v, c.v)};
}
/// Where one is NaN, the result is the second.
inline V vmin(V a, V b) {
  return {_mm256_min_ps(a.v, b.v)};
}
inline V vmax(V a, V b) {
  return {_mm256_max_ps(a.v, b.v)};
}
inline V vabs(V a) {
  return {_mm256_andnot_ps(_mm256_set1_ps(-0.0F), a.v)};
}
inline V nearest(V a) {
  return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
/// a 2^n for whole n in [-126, 127]
inline V times_pow2(V a, V n) {
  const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n.v), _mm256_set1_epi32(127));
  return {_mm256_mul_ps(a.v, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)))};
}
inline float sum_of(V a) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
}
inline float max_of(V a) {
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_shuffle_ps(s, s, 1)));
}
inline __m256i lanes(std::int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline V load(const float* p) {
  return {_mm256_loadu_ps(p)};
}
inline void store(float* p, V a) {
  _mm256_storeu_ps(p, a.v);
}
/// The first min(n, 8) elements; zero beyond.
inline V load_some(const float* p, std::int64_t n) {
  return n >= kWidth ? load(p) : V{_mm256_maskload_ps(p, lanes(n))};
}
inline void store_some(float* p, V a, std::int64_t n) {
  if (n >= kWidth) return store(p, a);
  _mm256_maskstore_ps(p, lanes(n), a.v);
}
inline V keep_some(V a, std::int64_t n) {
  return n >= kWidth ? a : V{_mm256_and_ps(a.v, _mm256_castsi256_ps(lanes(n)))};
}
inline V from_int(V bits) {
  return {_mm256_cvtepi32_ps(_mm256_castps_si256(bits.v))};
}

/// Whole vectors of rounded values from element i of a row on, of every four in the order 0, 2, 1, 3.
inline void store_quantised(void* row, std::int64_t i, V a) {
  const __m256i values = _mm256_cvtps_epi32(a.v);
  const __m128i low = _mm256_castsi256_si128(values), high = _mm256_extracti128_si256(values, 1);
  __m128i out = _mm_packs_epi32(low, high);
  out = _mm_shufflehi_epi16(_mm_shufflelo_epi16(out, 0xd8), 0xd8);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(static_cast<char*>(row) + 2 * i), out);
}

using Bits = __m256i;
inline Bits load_bits(const float* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
/// The same 32 bits in every lane.
inline Bits set_bits(int a) {
  return _mm256_set1_epi32(a);
}
/// Bytes 0, 2, 4 … with their signs, in sixteen bits each.
inline Bits even_bytes(Bits a) {
  return _mm256_srai_epi16(_mm256_slli_epi16(a, 8), 8);
}
inline Bits odd_bytes(Bits a) {
  return _mm256_srai_epi16(a, 8);
}
inline Bits multiply_pairs(Bits a, Bits b) {
  return _mm256_madd_epi16(a, b);
}
inline V add_bits(V sum, Bits a, Bits b) {
  return {_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(sum.v), _mm256_add_epi32(a, b)))};
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

const Kernels& avx2_kernels() {
  return kTable;
}

}  // namespace tandem::backend::cpu
