// Compiled for AVX2; see kernels_isa.h for what may be included here.
//
// Weights of up to 24 bits are written as two signed 16-bit halves, w = low + 2^12 high, multiplied in pairs of taps by
// vpmaddwd. A lane's four bytes are split into its even and its odd bytes, so the pairs are taps (0, 2) and (1, 3).
#include <immintrin.h>

#include "image/kernels_isa.h"

namespace tandem::image::avx2 {

void pack_weights(const std::int32_t weights[4], std::uint32_t* words) {
  std::uint32_t low[4], high[4];
  for (int i = 0; i < 4; ++i) {
    const std::int32_t l = ((weights[i] + 2048) & 4095) - 2048;
    low[i] = static_cast<std::uint32_t>(l) & 0xFFFFu;
    high[i] = static_cast<std::uint32_t>((weights[i] - l) / 4096) & 0xFFFFu;
  }
  words[0] = low[0] | low[2] << 16;
  words[1] = low[1] | low[3] << 16;
  words[2] = high[0] | high[2] << 16;
  words[3] = high[1] | high[3] << 16;
}

namespace {

struct Sums {
  __m256i low, high;
};

inline __m256i broadcast(const std::uint32_t* word) {
  return _mm256_set1_epi32(static_cast<int>(*word));
}

inline __m256i load(const std::uint32_t* from) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}

inline void add_taps(Sums& sums, __m256i pixels, __m256i low02, __m256i low13, __m256i high02, __m256i high13) {
  const __m256i even = _mm256_and_si256(pixels, _mm256_set1_epi32(0x00FF00FF));
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(pixels, 8), _mm256_set1_epi32(0x00FF00FF));
  sums.low =
      _mm256_add_epi32(sums.low, _mm256_add_epi32(_mm256_madd_epi16(even, low02), _mm256_madd_epi16(odd, low13)));
  sums.high =
      _mm256_add_epi32(sums.high, _mm256_add_epi32(_mm256_madd_epi16(even, high02), _mm256_madd_epi16(odd, high13)));
}

/// Eight results as bytes, in the low half.
inline __m128i finish(const Sums& sums, __m256i half, __m128i shift) {
  const __m256i sum = _mm256_add_epi32(_mm256_add_epi32(sums.low, half), _mm256_slli_epi32(sums.high, 12));
  const __m256i value = _mm256_sra_epi32(sum, shift);
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(value), _mm256_extracti128_si256(value, 1));
  return _mm_packus_epi16(words, words);
}

inline __m256i two_rows(const std::uint8_t* a, const std::uint8_t* b) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(a))),
                                 _mm_loadu_si128(reinterpret_cast<const __m128i*>(b)), 1);
}

inline void store(std::uint32_t* to, __m256i value) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), value);
}

}  // namespace

void pack_rows(const std::uint8_t* const rows[], int groups, std::uint32_t* tile) {
  const __m256i split =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, 12, 13, 14, 15));
  for (int g = 0; g < groups; ++g, tile += 48) {
    const std::int64_t at = 12 * static_cast<std::int64_t>(g);
    for (int part = 0; part < 2; ++part) {
      const std::uint8_t* const* r = rows + 8 * part;
      __m256i v[4];
      for (int i = 0; i < 4; ++i) v[i] = _mm256_shuffle_epi8(two_rows(r[i] + at, r[4 + i] + at), split);
      const __m256i low01 = _mm256_unpacklo_epi32(v[0], v[1]), low23 = _mm256_unpacklo_epi32(v[2], v[3]);
      const __m256i high01 = _mm256_unpackhi_epi32(v[0], v[1]), high23 = _mm256_unpackhi_epi32(v[2], v[3]);
      store(tile + 8 * part, _mm256_unpacklo_epi64(low01, low23));
      store(tile + 16 + 8 * part, _mm256_unpackhi_epi64(low01, low23));
      store(tile + 32 + 8 * part, _mm256_unpacklo_epi64(high01, high23));
    }
  }
}

void columns(const std::uint32_t* tile, const PackedAxis& axis, std::uint32_t* bytes, std::int64_t stride) {
  const __m256i half = _mm256_set1_epi32(1 << (axis.shift - 1));
  const __m128i shift = _mm_cvtsi32_si128(axis.shift);
  for (int x = 0; x < axis.outputs; ++x) {
    for (int part = 0; part < 2; ++part) {
      const std::uint32_t* from = tile + static_cast<std::int64_t>(axis.first[x]) * 48 + 8 * part;
      const std::uint32_t* w = axis.words + axis.first_word[x];
      const __m256i zero = _mm256_setzero_si256();
      Sums sums[3] = {{zero, zero}, {zero, zero}, {zero, zero}};
      for (int g = 0; g < axis.count[x]; ++g, from += 48, w += 4) {
        const __m256i w0 = broadcast(w), w1 = broadcast(w + 1), w2 = broadcast(w + 2), w3 = broadcast(w + 3);
        for (int c = 0; c < 3; ++c) add_taps(sums[c], load(from + 16 * c), w0, w1, w2, w3);
      }
      for (int c = 0; c < 3; ++c) {
        const __m128i result = finish(sums[c], half, shift);
        std::uint32_t* to = bytes + 2 * part * stride + 3 * static_cast<std::int64_t>(x) + c;
        to[0] = static_cast<std::uint32_t>(_mm_cvtsi128_si32(result));
        to[stride] = static_cast<std::uint32_t>(_mm_extract_epi32(result, 1));
      }
    }
  }
}

void row(const std::uint32_t* bytes, std::int64_t stride, const PackedAxis& axis, int y, int width, std::uint8_t* out) {
  const __m256i half = _mm256_set1_epi32(1 << (axis.shift - 1));
  const __m128i shift = _mm_cvtsi32_si128(axis.shift);
  const std::uint32_t* base = bytes;
  const std::uint32_t* words = axis.words + axis.first_word[y];
  for (int i = 0; i < width; i += 8) {
    const __m256i zero = _mm256_setzero_si256();
    Sums sums{zero, zero};
    const std::uint32_t* from = base + i;
    const std::uint32_t* w = words;
    for (int g = 0; g < axis.count[y]; ++g, from += stride, w += 4) {
      add_taps(sums, load(from), broadcast(w), broadcast(w + 1), broadcast(w + 2), broadcast(w + 3));
    }
    const __m128i result = finish(sums, half, shift);
    if (width - i >= 8) {
      _mm_storel_epi64(reinterpret_cast<__m128i*>(out + i), result);
    } else {
      std::uint64_t value = static_cast<std::uint64_t>(_mm_cvtsi128_si64(result));
      for (int k = i; k < width; ++k, value >>= 8) out[k] = static_cast<std::uint8_t>(value);
    }
  }
}

}  // namespace tandem::image::avx2
