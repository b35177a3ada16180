// From cleaned text to words: the references' regular expression as a scan over classes of code points.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "text/tokenizer.h"
#include "text/unicode.h"

namespace tandem::text {

/// What a code point is to the regular expression
/// SPECIAL|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+
enum class Kind : std::uint8_t { none, letter, number, other };

inline Kind kind_of(char32_t c, Cleaning cleaning) noexcept {
  const unsigned flags = flags_of(c) >> (cleaning == Cleaning::hf ? 0 : 5);
  static_assert(kPyLetter == kHfLetter << 5 && kPyNumber == kHfNumber << 5 && kPyOther == kHfOther << 5);
  return (flags & kHfLetter) != 0   ? Kind::letter
         : (flags & kHfNumber) != 0 ? Kind::number
         : (flags & kHfOther) != 0  ? Kind::other
                                    : Kind::none;
}

/// Length of the contraction ('s 't 're 've 'm 'll 'd) that text has at `at`, 0 if none. `regex` ignores case, for
/// which the long s (U+017F) is an s; capitals are gone by now.
template <class Text>
std::size_t contraction_length(const Text& text, std::size_t at, bool long_s) noexcept {
  const auto get = [&](std::size_t i) -> char32_t { return i < text.size() ? static_cast<char32_t>(text[i]) : 0; };
  if (get(at) != U'\'') return 0;
  const char32_t a = get(at + 1), b = get(at + 2);
  if (a == U's' || a == U't' || a == U'm' || a == U'd' || (long_s && a == 0x17f)) return 2;
  if ((a == U'r' && b == U'e') || (a == U'v' && b == U'e') || (a == U'l' && b == U'l')) return 3;
  return 0;
}

/// Calls take(word) for each word of `text`; take returns false to stop early. `special(text, at)` gives the length of
/// a literal that goes before all other alternatives at `at`, or 0.
template <class Special, class Take>
void for_words(std::u32string_view text, Cleaning cleaning, Special&& special, Take&& take) {
  for (std::size_t at = 0; at < text.size();) {
    const Kind kind = kind_of(text[at], cleaning);
    std::size_t length = text[at] == U'<' ? special(text, at) : 0;
    if (length == 0) length = contraction_length(text, at, cleaning == Cleaning::openai);
    if (length == 0) {
      length = 1;
      if (kind == Kind::letter || kind == Kind::other)
        while (at + length < text.size() && kind_of(text[at + length], cleaning) == kind) ++length;
    }
    if (kind != Kind::none && !take(text.substr(at, length))) return;
    at += length;
  }
}

}  // namespace tandem::text
