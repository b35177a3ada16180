#include "text/html.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include "text/unicode.h"

namespace tandem::text {
namespace {

struct Entity {
  std::string_view name;
  const char* text;
};
struct Replacement {
  char32_t number;
  const char* text;
};

#include "text/html_entities.inc"

constexpr char32_t kReplacement = 0xfffd;
constexpr std::size_t kLongestName = 32;  // html.unescape's limit on a name, semicolon apart
constexpr std::size_t kFtfyLongest = 24;  // ftfy's limit on what stands between "&" or "&#" and ";"

template <std::size_t N>
const Entity* find_entity(const Entity (&table)[N], std::string_view name) {
  const auto it = std::lower_bound(std::begin(table), std::end(table), name,
                                   [](const Entity& e, std::string_view key) { return e.name < key; });
  return it != std::end(table) && it->name == name ? it : nullptr;
}

bool is_digit(char32_t c) {
  return c >= '0' && c <= '9';
}
bool is_alnum(char32_t c) {
  return is_digit(c) || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}
int hex_value(char32_t c) {
  if (is_digit(c)) return static_cast<int>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<int>(c - 'a') + 10;
  if (c >= 'A' && c <= 'F') return static_cast<int>(c - 'A') + 10;
  return -1;
}

/// What html.unescape writes for a numeric reference.
void append_number(char32_t number, std::u32string& out) {
  const auto it = std::lower_bound(std::begin(kNumericReferences), std::end(kNumericReferences), number,
                                   [](const Replacement& r, char32_t key) { return r.number < key; });
  if (it != std::end(kNumericReferences) && it->number == number)
    out += decode_utf8(it->text);
  else if (number > 0x10ffff || (number >= 0xd800 && number <= 0xdfff))
    out += kReplacement;
  else if (!std::binary_search(std::begin(kInvalidReferences), std::end(kInvalidReferences), number))
    out += number;
}

/// Reads "&#123;" or "&#x1f;" at text[at] == '&'; the semicolon may be missing. Returns the position after it and
/// appends its replacement, or nothing if there is no digit. Any number above U+10FFFF counts as the same one.
std::optional<std::size_t> numeric_reference(std::u32string_view text, std::size_t at, std::u32string& out) {
  std::size_t i = at + 2;
  const bool hex = i < text.size() && (text[i] == 'x' || text[i] == 'X');
  if (hex) ++i;
  const std::size_t digits = i;
  char32_t number = 0;
  for (; i < text.size(); ++i) {
    const int value = hex || is_digit(text[i]) ? hex_value(text[i]) : -1;
    if (value < 0) break;
    number = std::min<char32_t>(number * (hex ? 16 : 10) + static_cast<char32_t>(value), 0x110000);
  }
  if (i == digits) return std::nullopt;
  if (i < text.size() && text[i] == ';') ++i;
  append_number(number, out);
  return i;
}

/// The ASCII text of [begin, end), or as much as comes before the first other character.
std::string ascii_prefix(std::u32string_view text) {
  std::string name;
  for (char32_t c : text) {
    if (c >= 0x80) break;
    name += static_cast<char>(c);
  }
  return name;
}

/// Appends what html.unescape makes of the named reference at text[at] == '&' and returns the position after it.
std::optional<std::size_t> named_reference(std::u32string_view text, std::size_t at, std::u32string& out) {
  constexpr std::u32string_view kStops = U"\t\n\f <&#;";
  std::size_t end = at + 1;
  while (end < text.size() && end - at - 1 < kLongestName && kStops.find(text[end]) == std::u32string_view::npos) ++end;
  if (end == at + 1) return std::nullopt;
  if (end < text.size() && text[end] == ';') ++end;
  const std::u32string_view whole = text.substr(at + 1, end - at - 1);
  const std::string name = ascii_prefix(whole);  // no name has other characters
  // The whole, else its longest prefix of at least two characters that is a name.
  for (std::size_t length = name.size(); length >= 1; --length) {
    if (length < 2 && length != whole.size()) break;
    if (const Entity* entity = find_entity(kHtml5, std::string_view(name).substr(0, length))) {
      out += decode_utf8(entity->text);
      out += whole.substr(length);
      return end;
    }
  }
  out += U'&';
  out += whole;
  return end;
}

}  // namespace

void html_unescape(std::u32string& text) {
  if (text.find(U'&') == std::u32string::npos) return;
  std::u32string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    if (text[i] == U'&') {
      const bool numeric = i + 1 < text.size() && text[i + 1] == U'#';
      if (const auto next = numeric ? numeric_reference(text, i, out) : named_reference(text, i, out)) {
        i = *next;
        continue;
      }
    }
    out += text[i++];
  }
  text = std::move(out);
}

void ftfy_unescape(std::u32string& text) {
  if (text.find(U'&') == std::u32string::npos) return;
  std::u32string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    if (text[i] != U'&') {
      out += text[i++];
      continue;
    }
    const bool numeric = i + 1 < text.size() && text[i + 1] == U'#';
    const std::size_t begin = i + (numeric ? 2 : 1);
    std::size_t end = begin;
    while (end < text.size() && end - begin < kFtfyLongest && is_alnum(text[end])) ++end;
    if (end == begin || end == text.size() || text[end] != U';') {
      out += text[i++];
      continue;
    }
    ++end;
    if (numeric) {
      // Taken only when html.unescape consumes all of it; "&#59;", a semicolon itself, looks as if it did not.
      std::u32string replaced;
      const auto next = numeric_reference(text, i, replaced);
      if (next == end && replaced.find(U';') == std::u32string::npos)
        out += replaced;
      else
        out.append(text, i, end - i);
    } else {
      const std::string name = ascii_prefix(std::u32string_view(text).substr(begin, end - begin));
      const Entity* entity = find_entity(kHtml5, name);
      if (entity == nullptr) entity = find_entity(kCapitalEntities, name);
      if (entity != nullptr)
        out += decode_utf8(entity->text);
      else
        out.append(text, i, end - i);
    }
    i = end;
  }
  text = std::move(out);
}

}  // namespace tandem::text
