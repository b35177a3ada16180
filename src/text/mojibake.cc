#include "text/mojibake.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "text/unicode.h"

namespace tandem::text {
namespace {

struct Run {
  char32_t first;
  std::uint32_t value;
};
struct Mask {
  std::uint64_t low, high;
};

#include "text/mojibake_tables.inc"

using Bytes = std::string;

constexpr char32_t kReplacement = 0xfffd;
constexpr unsigned char kSubstitute = 0x1a;  // ftfy's "sloppy" encodings let this byte stand for U+FFFD
constexpr int kEncodingCount = std::size(kEncodings) / 128;
constexpr int kLatin1 = 0, kWindows1252 = 1, kLastSloppy = 6, kMacRoman = 8;  // ftfy's order

bool is_sloppy(int encoding) {
  return encoding >= kWindows1252 && encoding <= kLastSloppy;
}

/// Classes of ftfy's UTF8_DETECTOR_RE; the order is that of utf8_clues() in tools/make_unicode_tables.py.
enum Clue : std::uint32_t { kFirstOf2 = 1, kFirstOf3 = 2, kFirstOf4 = 4, kContinuation = 8, kContinuationStrict = 16 };

template <std::size_t N>
const Run* find_run(const Run (&table)[N], char32_t c) {
  const auto it =
      std::lower_bound(std::begin(table), std::end(table), c, [](const Run& r, char32_t key) { return r.first < key; });
  return it != std::end(table) && it->first == c ? it : nullptr;
}

std::uint32_t clue_of(char32_t c) {
  const Run* run = find_run(kUtf8Clues, c);
  return run == nullptr ? 0 : run->value;
}

const Mask& badness_mask(char32_t c) {
  if (const Run* run = find_run(kBadnessKinds, c)) return kBadnessMasks[run->value];
  const std::uint16_t flags = flags_of(c);
  return kBadnessMasks[kBadnessDefaults[(flags & kPySpace) != 0 ? 2 : (flags & kPyWord) != 0 ? 1 : 0]];
}

/// Byte of a code point in an encoding, or nothing.
std::optional<unsigned char> encode(char32_t c, int encoding) {
  if (c < 0x80) {
    if (c == kSubstitute && is_sloppy(encoding)) return std::nullopt;
    return static_cast<unsigned char>(c);
  }
  if (c == kReplacement && is_sloppy(encoding)) return kSubstitute;
  if (encoding == kLatin1) return c < 0x100 ? std::optional(static_cast<unsigned char>(c)) : std::nullopt;
  static const auto tables = [] {
    std::array<std::unordered_map<char32_t, unsigned char>, kEncodingCount> maps;
    for (int e = 0; e < kEncodingCount; ++e)
      for (int b = 0; b < 128; ++b) maps[e][kEncodings[e * 128 + b]] = static_cast<unsigned char>(128 + b);
    return maps;
  }();
  const auto it = tables[encoding].find(c);
  return it == tables[encoding].end() ? std::nullopt : std::optional(it->second);
}

std::optional<Bytes> encode(std::u32string_view text, int encoding) {
  Bytes bytes;
  bytes.reserve(text.size());
  for (char32_t c : text) {
    const auto byte = encode(c, encoding);
    if (!byte) return std::nullopt;
    bytes += static_cast<char>(*byte);
  }
  return bytes;
}

/// Reads bytes by position; past the end every test fails.
class Reader {
 public:
  explicit Reader(const Bytes& bytes) : bytes_(bytes) {}
  int at(std::size_t i) const { return i < bytes_.size() ? static_cast<unsigned char>(bytes_[i]) : -1; }
  bool in(std::size_t i, int low, int high) const { return at(i) >= low && at(i) <= high; }
  bool is(std::size_t i, int byte) const { return at(i) == byte; }
  bool starts(std::size_t i, std::string_view prefix) const { return bytes_.compare(i, prefix.size(), prefix) == 0; }
  /// Python's "$" in bytes: the end, or just before a last newline.
  bool ends(std::size_t i) const { return i == bytes_.size() || (i + 1 == bytes_.size() && bytes_[i] == '\n'); }
  std::size_t size() const { return bytes_.size(); }

 private:
  const Bytes& bytes_;
};

/// Length of ftfy's ALTERED_UTF8_RE at i (UTF-8 in which a space stands for byte A0), 0 if it does not match.
std::size_t altered_length(const Reader& r, std::size_t i) {
  const auto tail = [&](std::size_t k) { return r.in(k, 0x80, 0xbf) && !r.is(k, 0x85) && !r.is(k, 0xa0); };
  const auto any = [&](std::size_t k) { return r.in(k, 0x80, 0xbf); };
  switch (r.at(i)) {
    case 0xc2:
    case 0xc3:
    case 0xc5:
    case 0xce:
    case 0xd0:
    case 0xd9: return r.is(i + 1, ' ') ? 2 : 0;
    case 0xe2:
    case 0xe3:
      if (r.is(i + 1, ' ') && tail(i + 2)) return 3;
      [[fallthrough]];
    case 0xe0:
    case 0xe1: return tail(i + 1) && r.is(i + 2, ' ') ? 3 : 0;
    case 0xf0: {
      const bool a = r.is(i + 1, ' '), b = r.is(i + 2, ' '), c = r.is(i + 3, ' ');
      const bool match =
          (a && any(i + 2) && any(i + 3)) || (any(i + 1) && b && any(i + 3)) || (any(i + 1) && any(i + 2) && c);
      return match ? 4 : 0;
    }
    default: return 0;
  }
}

void restore_byte_a0(Bytes& bytes) {
  const auto search = [](const Bytes& in) {
    const Reader r(in);
    for (std::size_t i = 0; i < r.size(); ++i)
      if (altered_length(r, i) != 0) return true;
    return false;
  };
  if (!search(bytes)) return;
  // "à" as a word of its own lost its A0 to the space that followed: put one back and keep the space.
  Bytes words;
  const Reader r(bytes);
  for (std::size_t i = 0; i < r.size(); ++i) {
    words += bytes[i];
    if (!r.is(i, 0xc3) || !r.is(i + 1, ' ')) continue;
    bool other = false;
    for (std::string_view tail : {" ", "quele", "quela", "quilo", "s "}) other = other || r.starts(i + 2, tail);
    if (!other) {
      words += "\xa0 ";
      ++i;
    }
  }
  const Reader w(words);
  Bytes out = words;
  for (std::size_t i = 0; i < w.size();) {
    const std::size_t length = altered_length(w, i);
    std::replace(out.begin() + static_cast<std::ptrdiff_t>(i), out.begin() + static_cast<std::ptrdiff_t>(i + length),
                 ' ', '\xa0');
    i += std::max<std::size_t>(length, 1);
  }
  bytes = std::move(out);
}

/// Length of ftfy's LOSSY_UTF8_RE at i: UTF-8 some of whose bytes were lost to U+FFFD (or to one question mark).
std::size_t lossy_length(const Reader& r, std::size_t i) {
  const auto lost = [&](std::size_t k) { return r.is(k, kSubstitute) || r.is(k, '?'); };
  const auto tail = [&](std::size_t k) { return r.is(k, kSubstitute) || r.in(k, 0x80, 0xbf); };
  if (r.in(i, 0xc2, 0xdf) && r.is(i + 1, kSubstitute)) return 2;
  if (r.in(i, 0xc2, 0xc3) && r.is(i + 1, '?')) return 2;
  if (r.is(i, 0xed) && r.in(i + 1, 0xa0, 0xaf) && r.is(i + 3, 0xed) && r.in(i + 4, 0xb0, 0xbf)) {
    const auto either = [&](std::size_t k) { return lost(k) || r.in(k, 0x80, 0xbf); };
    if ((lost(i + 2) && either(i + 5)) || (either(i + 2) && lost(i + 5))) return 6;
  }
  if (r.in(i, 0xe0, 0xef) && ((lost(i + 1) && tail(i + 2)) || (tail(i + 1) && lost(i + 2)))) return 3;
  if (r.in(i, 0xf0, 0xf4) &&
      ((lost(i + 1) && tail(i + 2) && tail(i + 3)) || (tail(i + 1) && lost(i + 2) && tail(i + 3)) ||
       (tail(i + 1) && tail(i + 2) && lost(i + 3))))
    return 4;
  return r.is(i, kSubstitute) ? 1 : 0;
}

void replace_lossy(Bytes& bytes) {
  const Reader r(bytes);
  Bytes out;
  for (std::size_t i = 0; i < r.size();) {
    if (const std::size_t length = lossy_length(r, i)) {
      out += "\xef\xbf\xbd";
      i += length;
    } else {
      out += bytes[i++];
    }
  }
  bytes = std::move(out);
}

/// Length of the valid UTF-8 sequence at i, 0 if there is none.
std::size_t utf8_length(const Reader& r, std::size_t i) {
  const int lead = r.at(i);
  const auto tail = [&](std::size_t k) { return r.in(k, 0x80, 0xbf); };
  if (lead < 0x80) return lead < 0 ? 0 : 1;
  if (lead >= 0xc2 && lead <= 0xdf) return tail(i + 1) ? 2 : 0;
  if (lead >= 0xe0 && lead <= 0xef) {
    const bool second = r.in(i + 1, lead == 0xe0 ? 0xa0 : 0x80, lead == 0xed ? 0x9f : 0xbf);
    return second && tail(i + 2) ? 3 : 0;
  }
  if (lead >= 0xf0 && lead <= 0xf4) {
    const bool second = r.in(i + 1, lead == 0xf0 ? 0x90 : 0x80, lead == 0xf4 ? 0x8f : 0xbf);
    return second && tail(i + 2) && tail(i + 3) ? 4 : 0;
  }
  return 0;
}

/// Strict UTF-8, plus what ftfy's "utf-8-variants" accepts: CESU-8 surrogate pairs and C0 80 for U+0000, with the
/// oddity that "$" in its expressions lets a last newline count as the end of a sequence.
std::optional<std::u32string> decode_strict(const Bytes& bytes) {
  const Reader r(bytes);
  std::u32string out;
  for (std::size_t i = 0; i < r.size();) {
    if (r.is(i, 0xc0)) {
      if (i + 1 == r.size() || !(r.is(i + 1, 0x80) || r.ends(i + 1))) return std::nullopt;
      out += U'\0';
      i += 2;
    } else if (r.is(i, 0xed) && r.in(i + 1, 0xa0, 0xbf)) {
      const bool pair = i + 6 <= r.size() && r.in(i + 1, 0xa0, 0xaf) && r.in(i + 2, 0x80, 0xbf) && r.is(i + 3, 0xed) &&
                        r.in(i + 4, 0xb0, 0xbf) && (r.in(i + 5, 0x80, 0xbf) || r.ends(i + 5));
      if (!pair) return std::nullopt;
      const auto bits = [&](std::size_t k, int mask) { return static_cast<char32_t>(r.at(k) & mask); };
      out += static_cast<char32_t>((bits(i + 1, 0x0f) << 16) + (bits(i + 2, 0x3f) << 10) + (bits(i + 4, 0x0f) << 6) +
                                   bits(i + 5, 0x3f) + 0x10000);
      i += 6;
    } else {
      const std::size_t length = utf8_length(r, i);
      if (length == 0) return std::nullopt;
      out += decode_utf8(std::string_view(bytes).substr(i, length));
      i += length;
    }
  }
  return out;
}

/// Length of ftfy's UTF8_DETECTOR_RE at i: one or more characters' worth of UTF-8 read in some single-byte encoding.
std::size_t detected_length(std::u32string_view text, std::size_t i) {
  if (i > 0 && (clue_of(text[i - 1]) & kContinuationStrict) != 0) return 0;
  const auto continues = [&](std::size_t k, std::size_t count) {
    if (k + count > text.size()) return false;
    for (std::size_t j = k; j < k + count; ++j)
      if ((clue_of(text[j]) & kContinuation) == 0) return false;
    return true;
  };
  std::size_t end = i;
  while (end < text.size()) {
    const std::uint32_t clue = clue_of(text[end]);
    if ((clue & kFirstOf2) != 0 && continues(end + 1, 1))
      end += 2;
    else if ((clue & kFirstOf3) != 0 && continues(end + 1, 2))
      end += 3;
    else if ((clue & kFirstOf4) != 0 && continues(end + 1, 3))
      end += 4;
    else
      break;
  }
  return end - i;
}

std::u32string decode_inconsistent_utf8(std::u32string_view text, int rounds) {
  std::u32string out;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = detected_length(text, i);
    if (length == 0) {
      out += text[i++];
      continue;
    }
    const std::u32string_view part = text.substr(i, length);
    // The match must be shorter than the text, so this recursion ends.
    if (length < text.size() && looks_bad(part))
      out += fix_encoding(std::u32string(part), rounds);
    else
      out += part;
    i += length;
  }
  return out;
}

/// ftfy's _fix_encoding_one_step_and_explain.
std::u32string fix_encoding_once(std::u32string_view text, int rounds) {
  for (int encoding = 0; encoding < kEncodingCount; ++encoding) {
    auto bytes = encode(text, encoding);
    if (!bytes) continue;
    if (encoding != kMacRoman) restore_byte_a0(*bytes);
    if (is_sloppy(encoding)) replace_lossy(*bytes);
    if (auto fixed = decode_strict(*bytes)) return *std::move(fixed);
  }
  std::u32string fixed = decode_inconsistent_utf8(text, rounds);
  if (fixed != text) return fixed;
  // ftfy distinguishes Latin-1 text from other text here; both ways come to the same.
  fix_c1_controls(fixed);
  return fixed;
}

}  // namespace

bool looks_bad(std::u32string_view text) {
  const auto& [first, first_at_start, last] = kBadnessPlaces;
  // The places reached by the characters read so far; a place's successor is the next bit.
  Mask reached{0, 0};
  Mask starts{first.low | first_at_start.low, first.high | first_at_start.high};
  for (char32_t c : text) {
    const Mask& mask = badness_mask(c);
    // What ends a sequence has returned below, so a shift never carries one sequence's end into the next's start.
    const std::uint64_t high = reached.high << 1 | reached.low >> 63;
    reached.low = (reached.low << 1 | starts.low) & mask.low;
    reached.high = (high | starts.high) & mask.high;
    if (((reached.low & last.low) | (reached.high & last.high)) != 0) return true;
    starts = first;
  }
  return false;
}

void fix_c1_controls(std::u32string& text) {
  for (char32_t& c : text)
    if (c >= 0x80 && c < 0xa0) c = kEncodings[kWindows1252 * 128 + (c - 0x80)];
}

std::u32string fix_encoding(std::u32string text, int rounds) {
  const auto ascii = [](char32_t c) { return c < 0x80; };
  for (; rounds > 0; --rounds) {
    if (std::all_of(text.begin(), text.end(), ascii) || !looks_bad(text)) break;
    std::u32string fixed = fix_encoding_once(text, rounds);
    if (fixed == text) break;
    text = std::move(fixed);
  }
  return text;
}

}  // namespace tandem::text
