// Compiled for AVX-512 F, BW, VL and VNNI; see kernels_isa.h for what may be included here.
//
// Weights of up to 24 bits are written as three signed bytes, w = d0 + 2^8 d1 + 2^16 d2, so that vpdpbusd (unsigned
// bytes times signed bytes, four products summed into 32 bits without saturation) does all the work; the three sums are
// put together modulo 2^32, which is exact because the true sum fits.
#include <immintrin.h>

#include "image/kernels_isa.h"

namespace tandem::image::avx512 {

void pack_weights(const std::int32_t weights[4], std::uint32_t* words) {
  for (int digit = 0; digit < 3; ++digit) words[digit] = 0;
  for (int i = 0; i < 4; ++i) {
    std::int32_t w = weights[i];
    for (int digit = 0; digit < 3; ++digit) {
      const std::int32_t low = ((w + 128) & 255) - 128;
      words[digit] |= (static_cast<std::uint32_t>(low) & 255u) << (8 * i);
      w = (w - low) / 256;  // exact
    }
  }
}

namespace {

inline __m512i four_rows(const std::uint8_t* a, const std::uint8_t* b, const std::uint8_t* c, const std::uint8_t* d) {
  __m512i v = _mm512_castsi128_si512(_mm_loadu_si128(reinterpret_cast<const __m128i*>(a)));
  v = _mm512_inserti32x4(v, _mm_loadu_si128(reinterpret_cast<const __m128i*>(b)), 1);
  v = _mm512_inserti32x4(v, _mm_loadu_si128(reinterpret_cast<const __m128i*>(c)), 2);
  return _mm512_inserti32x4(v, _mm_loadu_si128(reinterpret_cast<const __m128i*>(d)), 3);
}

inline __m512i put_together(__m512i d0, __m512i d1, __m512i d2, __m512i half, __m128i shift) {
  const __m512i sum = _mm512_add_epi32(_mm512_add_epi32(d0, half),
                                       _mm512_add_epi32(_mm512_slli_epi32(d1, 8), _mm512_slli_epi32(d2, 16)));
  return _mm512_max_epi32(_mm512_sra_epi32(sum, shift), _mm512_setzero_si512());
}

inline __m512i broadcast(const std::uint32_t* word) {
  return _mm512_set1_epi32(static_cast<int>(*word));
}

}  // namespace

void pack_rows(const std::uint8_t* const rows[], int groups, std::uint32_t* tile) {
  // Four RGB pixels to four reds, four greens, four blues (and four bytes that are not used).
  const __m512i split = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, 12, 13, 14, 15));
  for (int g = 0; g < groups; ++g) {
    const std::int64_t at = 12 * static_cast<std::int64_t>(g);
    // Lane l of vector i is row 4l + i, so that a 4x4 transposition inside lanes puts the rows in order.
    __m512i v[4];
    for (int i = 0; i < 4; ++i) {
      v[i] = _mm512_shuffle_epi8(four_rows(rows[i] + at, rows[4 + i] + at, rows[8 + i] + at, rows[12 + i] + at), split);
    }
    const __m512i low01 = _mm512_unpacklo_epi32(v[0], v[1]), low23 = _mm512_unpacklo_epi32(v[2], v[3]);
    const __m512i high01 = _mm512_unpackhi_epi32(v[0], v[1]), high23 = _mm512_unpackhi_epi32(v[2], v[3]);
    _mm512_storeu_si512(tile, _mm512_unpacklo_epi64(low01, low23));
    _mm512_storeu_si512(tile + 16, _mm512_unpackhi_epi64(low01, low23));
    _mm512_storeu_si512(tile + 32, _mm512_unpacklo_epi64(high01, high23));
    tile += 48;
  }
}

void columns(const std::uint32_t* tile, const PackedAxis& axis, std::uint32_t* bytes, std::int64_t stride) {
  const __m512i half = _mm512_set1_epi32(1 << (axis.shift - 1));
  const __m128i shift = _mm_cvtsi32_si128(axis.shift);
  for (int x = 0; x < axis.outputs; ++x) {
    const std::uint32_t* from = tile + static_cast<std::int64_t>(axis.first[x]) * 48;
    const std::uint32_t* w = axis.words + axis.first_word[x];
    __m512i sum[3][3];
    for (auto& channel : sum) {
      for (auto& digit : channel) digit = _mm512_setzero_si512();
    }
    for (int g = 0; g < axis.count[x]; ++g, from += 48, w += 3) {
      const __m512i w0 = broadcast(w), w1 = broadcast(w + 1), w2 = broadcast(w + 2);
      for (int c = 0; c < 3; ++c) {
        const __m512i pixels = _mm512_loadu_si512(from + 16 * c);
        sum[c][0] = _mm512_dpbusd_epi32(sum[c][0], pixels, w0);
        sum[c][1] = _mm512_dpbusd_epi32(sum[c][1], pixels, w1);
        sum[c][2] = _mm512_dpbusd_epi32(sum[c][2], pixels, w2);
      }
    }
    for (int c = 0; c < 3; ++c) {
      const __m128i result = _mm512_cvtusepi32_epi8(put_together(sum[c][0], sum[c][1], sum[c][2], half, shift));
      std::uint32_t* to = bytes + 3 * static_cast<std::int64_t>(x) + c;
      to[0] = static_cast<std::uint32_t>(_mm_cvtsi128_si32(result));
      to[stride] = static_cast<std::uint32_t>(_mm_extract_epi32(result, 1));
      to[2 * stride] = static_cast<std::uint32_t>(_mm_extract_epi32(result, 2));
      to[3 * stride] = static_cast<std::uint32_t>(_mm_extract_epi32(result, 3));
    }
  }
}

void row(const std::uint32_t* bytes, std::int64_t stride, const PackedAxis& axis, int y, int width, std::uint8_t* out) {
  const __m512i half = _mm512_set1_epi32(1 << (axis.shift - 1));
  const __m128i shift = _mm_cvtsi32_si128(axis.shift);
  const std::uint32_t* base = bytes;
  const std::uint32_t* words = axis.words + axis.first_word[y];
  const int count = axis.count[y];
  for (int i = 0; i < width; i += 16) {
    __m512i d0 = _mm512_setzero_si512(), d1 = d0, d2 = d0;
    const std::uint32_t* from = base + i;
    const std::uint32_t* w = words;
    for (int g = 0; g < count; ++g, from += stride, w += 3) {
      const __m512i pixels = _mm512_loadu_si512(from);
      d0 = _mm512_dpbusd_epi32(d0, pixels, broadcast(w));
      d1 = _mm512_dpbusd_epi32(d1, pixels, broadcast(w + 1));
      d2 = _mm512_dpbusd_epi32(d2, pixels, broadcast(w + 2));
    }
    const __m128i result = _mm512_cvtusepi32_epi8(put_together(d0, d1, d2, half, shift));
    const int left = width - i;
    _mm_mask_storeu_epi8(out + i, left >= 16 ? 0xFFFFu : (1u << left) - 1u, result);
  }
}

}  // namespace tandem::image::avx512
