// Compiled for AVX-512 with VBMI; see base64_isa.h for what may be included here.
//
// After W. Mula and D. Lemire, "Base64 encoding and decoding at almost the speed of a memory copy", Software: Practice
// and Experience 50 (2), 2020: one permutation looks all 128 characters up, one shift takes all digits apart. Masks
// read and write what is left at the end, and up to the first character that is no digit.
#include <immintrin.h>

#include "base/base64_isa.h"

namespace tandem::base64::avx512 {
namespace {

constexpr char kAlphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The values of the characters 0 to 127; 0x80 for those that are no digits.
struct Table {
  std::uint8_t values[128];
};

constexpr Table table_of(Alphabet alphabet) {
  Table table{};
  for (std::uint8_t& value : table.values) value = 0x80;
  for (std::uint8_t i = 0; i < 64; ++i) table.values[static_cast<std::uint8_t>(kAlphabet[i])] = i;
  if (alphabet == Alphabet::either) table.values['-'] = 62, table.values['_'] = 63;
  return table;
}

constexpr Table kStandard = table_of(Alphabet::standard), kEither = table_of(Alphabet::either);

/// Byte i of a register, by a rule.
struct Bytes {
  std::uint8_t at[64];
};

/// Three bytes of each group of 24 bits, which stand in their lanes the wrong way round.
constexpr Bytes kPacked = [] {
  Bytes bytes{};
  for (std::uint8_t i = 0; i < 48; ++i) bytes.at[i] = static_cast<std::uint8_t>(i / 3 * 4 + 2 - i % 3);
  return bytes;
}();

/// For a group of bytes 0, 1, 2 a lane of 1, 0, 2, 1: there every digit's six bits stand side by side.
constexpr Bytes kSpread = [] {
  Bytes bytes{};
  for (std::uint8_t i = 0; i < 64; ++i) {
    constexpr std::uint8_t kOrder[4] = {1, 0, 2, 1};
    bytes.at[i] = static_cast<std::uint8_t>(i / 4 * 3 + kOrder[i % 4]);
  }
  return bytes;
}();

inline __m512i load(const void* from) {
  return _mm512_loadu_si512(from);
}

/// The lowest n bits, n up to 64.
inline __mmask64 first_of(std::size_t n) {
  return n >= 64 ? ~__mmask64{0} : (__mmask64{1} << n) - 1;
}

}  // namespace

std::size_t decode(const char* text, std::size_t size, Alphabet alphabet, std::uint8_t* out) {
  const Table& table = alphabet == Alphabet::either ? kEither : kStandard;
  const __m512i low = load(table.values), high = load(table.values + 64), packed = load(kPacked.at);
  const __m512i pairs = _mm512_set1_epi32(0x01400140), groups = _mm512_set1_epi32(0x00011000);
  std::size_t at = 0;
  while (size - at >= 4) {
    const std::size_t left = size - at;
    // Where nothing is read there are zeros, which are no digits.
    const __m512i c = left >= 64 ? load(text + at) : _mm512_maskz_loadu_epi8(first_of(left), text + at);
    const __m512i values = _mm512_permutex2var_epi8(low, c, high);
    const __mmask64 bad = _mm512_movepi8_mask(_mm512_or_si512(values, c));
    const __m512i bytes =
        _mm512_permutexvar_epi8(packed, _mm512_madd_epi16(_mm512_maddubs_epi16(values, pairs), groups));
    if (bad == 0 && left >= 88) {  // 16 bytes more than there are, which the next ones overwrite
      _mm512_storeu_si512(out, bytes);
      at += 64, out += 48;
      continue;
    }
    const std::size_t good = bad == 0 ? 16 : static_cast<std::size_t>(__builtin_ctzll(bad)) / 4;
    _mm512_mask_storeu_epi8(out, first_of(3 * good), bytes);
    at += 4 * good, out += 3 * good;
    if (bad != 0) break;
  }
  return at;
}

std::size_t encode(const std::uint8_t* bytes, std::size_t size, char* out) {
  const __m512i alphabet = load(kAlphabet), spread = load(kSpread.at);
  // Where in each 64 bits a digit's six begin; the two bits above them are not looked at.
  const __m512i starts = _mm512_set1_epi64(0x3036242a1016040a);
  std::size_t at = 0;
  while (size - at >= 3) {
    const std::size_t left = size - at, groups = left >= 48 ? 16 : left / 3;
    const __m512i in = left >= 64 ? load(bytes + at) : _mm512_maskz_loadu_epi8(first_of(3 * groups), bytes + at);
    const __m512i digits =
        _mm512_permutexvar_epi8(_mm512_multishift_epi64_epi8(starts, _mm512_permutexvar_epi8(spread, in)), alphabet);
    if (groups == 16) {
      _mm512_storeu_si512(out, digits);
    } else {
      _mm512_mask_storeu_epi8(out, first_of(4 * groups), digits);
    }
    at += 3 * groups, out += 4 * groups;
  }
  return at;
}

}  // namespace tandem::base64::avx512
