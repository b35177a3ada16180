// Compiled for AVX2; see base64_isa.h for what may be included here.
//
// After W. Mula and D. Lemire, "Faster Base64 Encoding and Decoding Using AVX2 Instructions", ACM Transactions on the
// Web 12 (3), 2018: digits are gathered by multiplications, and their values found by tables of sixteen entries.
#include <immintrin.h>

#include "base/base64_isa.h"

namespace tandem::base64::avx2 {
namespace {

inline __m256i twice(__m128i lane) {
  return _mm256_broadcastsi128_si256(lane);
}

inline __m256i bytes_of(char c) {
  return _mm256_set1_epi8(c);
}

/// The bytes where `condition` (all ones or zeros) is set, replaced.
inline __m256i replaced(__m256i bytes, __m256i condition, char with) {
  return _mm256_blendv_epi8(bytes, bytes_of(with), condition);
}

}  // namespace

std::size_t decode(const char* text, std::size_t size, Alphabet alphabet, std::uint8_t* out) {
  // A character is a digit when the sets of its two halves meet nowhere. A set has one bit for each range of good lower
  // halves: 1: B, F (upper half 2); 2: 0 to 9 (3); 4: 1 to F (4 and 6); 8: 0 to A (5 and 7); 16: none (the rest).
  const __m256i upper_sets = twice(_mm_setr_epi8(16, 16, 1, 2, 4, 8, 4, 8, 16, 16, 16, 16, 16, 16, 16, 16));
  const __m256i bad_lower_sets = twice(_mm_setr_epi8(21, 17, 17, 17, 17, 17, 17, 17, 17, 17, 19, 26, 27, 27, 27, 26));
  // What to add to a character for its value, by its upper half: '+' 2; 0 to 9 3; A to Z 4, 5; a to z 6, 7.
  const __m256i distances = twice(_mm_setr_epi8(0, 0, 19, 4, -65, -65, -71, -71, 0, 0, 0, 0, 0, 0, 0, 0));
  const __m256i half = bytes_of(15), slash = bytes_of('/');
  std::size_t at = 0;
  // A block of 32 characters gives 24 bytes, and is stored with 8 more that the next ones overwrite.
  for (; size - at >= 44; at += 32, out += 24) {
    __m256i c = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(text + at));
    if (alphabet == Alphabet::either) {
      c = replaced(c, _mm256_cmpeq_epi8(c, bytes_of('-')), '+');
      c = replaced(c, _mm256_cmpeq_epi8(c, bytes_of('_')), '/');
    }
    const __m256i upper = _mm256_and_si256(_mm256_srli_epi32(c, 4), half), lower = _mm256_and_si256(c, half);
    if (_mm256_testz_si256(_mm256_shuffle_epi8(upper_sets, upper), _mm256_shuffle_epi8(bad_lower_sets, lower)) == 0) {
      break;
    }
    const __m256i is_slash = _mm256_and_si256(_mm256_cmpeq_epi8(c, slash), bytes_of(-3));  // 16, where '+' has 19
    const __m256i values = _mm256_add_epi8(c, _mm256_add_epi8(_mm256_shuffle_epi8(distances, upper), is_slash));
    // Pairs of six bits to twelve, pairs of twelve to 24; then the three bytes of every lane in their order.
    const __m256i pairs = _mm256_maddubs_epi16(values, _mm256_set1_epi32(0x01400140));
    const __m256i groups = _mm256_madd_epi16(pairs, _mm256_set1_epi32(0x00011000));
    const __m256i packed =
        _mm256_shuffle_epi8(groups, twice(_mm_setr_epi8(2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, -1, -1, -1, -1)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out),
                        _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 3, 7)));
  }
  return at;
}

std::size_t encode(const std::uint8_t* bytes, std::size_t size, char* out) {
  // What to add to a value for its digit: [0] a to z, [1 to 10] 0 to 9, [11] '+', [12] '/', [13] A to Z.
  const __m256i distances = twice(_mm_setr_epi8(71, -4, -4, -4, -4, -4, -4, -4, -4, -4, -4, -19, -16, 65, 0, 0));
  const __m256i order = twice(_mm_setr_epi8(1, 0, 2, 1, 4, 3, 5, 4, 7, 6, 8, 7, 10, 9, 11, 10));
  std::size_t at = 0;
  for (; size - at >= 28; at += 24, out += 32) {
    const __m128i first = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + at));
    const __m128i second = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + at + 12));
    const __m256i in = _mm256_shuffle_epi8(_mm256_inserti128_si256(_mm256_castsi128_si256(first), second, 1), order);
    // A multiplication is a shift of its own for each sixteen bits: the upper half of it to the right, the lower one to
    // the left.
    const __m256i even =
        _mm256_mulhi_epu16(_mm256_and_si256(in, _mm256_set1_epi32(0x0fc0fc00)), _mm256_set1_epi32(0x04000040));
    const __m256i odd =
        _mm256_mullo_epi16(_mm256_and_si256(in, _mm256_set1_epi32(0x003f03f0)), _mm256_set1_epi32(0x01000010));
    const __m256i values = _mm256_or_si256(even, odd);
    const __m256i upper_case = _mm256_and_si256(_mm256_cmpgt_epi8(bytes_of(26), values), bytes_of(13));
    const __m256i kind = _mm256_or_si256(_mm256_subs_epu8(values, bytes_of(51)), upper_case);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_add_epi8(values, _mm256_shuffle_epi8(distances, kind)));
  }
  return at;
}

}  // namespace tandem::base64::avx2
