#include "embed/json_text.h"

#include <charconv>
#include <cmath>
#include <cstdint>

namespace tandem::embed {
namespace {

// Length of the well-formed UTF-8 sequence at the beginning of `s`, or 0; `bad` is then how many bytes one U+FFFD
// stands for (a maximal subpart, as Unicode chapter 3.9 recommends).
std::size_t sequence_length(std::string_view s, std::size_t& bad) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(s[i]); };
  const unsigned char lead = byte(0);
  std::size_t length = 0;
  unsigned char low = 0x80, high = 0xBF;  // of the second byte
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) length = 2;
  if (lead >= 0xE0 && lead <= 0xEF) length = 3;
  if (lead >= 0xF0 && lead <= 0xF4) length = 4;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  bad = 1;
  if (length == 0) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if (i >= s.size() || byte(i) < low || byte(i) > high) return 0;
    low = 0x80;
    high = 0xBF;
    bad = i + 1;
  }
  return length;
}

template <class T>
void append_list(std::string& out, std::span<const T> values) {
  out += '[';
  bool first = true;
  for (const T value : values) {
    if (!first) out += ',';
    first = false;
    if constexpr (std::is_same_v<T, float>) {
      append_json(out, value);
    } else {
      char digits[16];
      out.append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
    }
  }
  out += ']';
}

}  // namespace

void append_json(std::string& out, std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  out += '"';
  std::size_t plain = 0;  // start of what can be copied as it is
  const auto flush = [&](std::size_t end) { out.append(text.substr(plain, end - plain)); };
  for (std::size_t i = 0; i < text.size();) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c >= 0x20 && c < 0x80 && c != '"' && c != '\\' && c != 0x7F) {
      ++i;
      continue;
    }
    if (c >= 0x80) {
      std::size_t bad = 0;
      const std::size_t length = sequence_length(text.substr(i), bad);
      if (length == 0) {
        flush(i);
        out += "\xEF\xBF\xBD";
        plain = i += bad;
      } else {
        i += length;
      }
      continue;
    }
    flush(i);
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      default:
        out += "\\u00";
        out += kHex[c >> 4];
        out += kHex[c & 15];
    }
    plain = ++i;
  }
  flush(text.size());
  out += '"';
}

void append_json(std::string& out, float value) {
  if (!std::isfinite(value)) {
    out += "null";
    return;
  }
  char digits[32];
  out.append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
}

void append_json(std::string& out, std::span<const float> values) {
  append_list(out, values);
}
void append_json(std::string& out, std::span<const std::int32_t> values) {
  append_list(out, values);
}

void append_json(std::string& out, const ItemError& error) {
  out += "{\"code\":";
  append_json(out, code_name(error.code));
  out += ",\"message\":";
  append_json(out, error.message);
  out += '}';
}

}  // namespace tandem::embed
