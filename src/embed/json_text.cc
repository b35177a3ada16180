#include "embed/json_text.h"

#include <charconv>
#include <cmath>
#include <cstdint>

#include "base/strings.h"

namespace tandem::embed {
namespace {

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
      const Utf8Length length = utf8_length(text.substr(i));
      if (length.good == 0) {
        flush(i);
        out += "\xEF\xBF\xBD";
        plain = i += length.bad;
      } else {
        i += length.good;
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
