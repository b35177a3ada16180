#include "base/strings.h"

#include <algorithm>

namespace tandem {

Utf8Length utf8_length(std::string_view text) noexcept {
  if (text.empty()) return {};
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {1, 0};
  std::size_t length = 0;
  unsigned char low = 0x80, high = 0xBF;  // of the second byte
  if (lead >= 0xC2 && lead <= 0xDF) length = 2;
  if (lead >= 0xE0 && lead <= 0xEF) length = 3;
  if (lead >= 0xF0 && lead <= 0xF4) length = 4;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  if (length == 0) return {0, 1};
  for (std::size_t i = 1; i < length; ++i) {
    if (i >= text.size() || byte(i) < low || byte(i) > high) return {0, i};
    low = 0x80;
    high = 0xBF;
  }
  return {length, 0};
}

std::string printable(std::string_view text) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string line;
  line.reserve(text.size());
  while (!text.empty()) {
    const auto [good, bad] = utf8_length(text);
    const auto first = static_cast<unsigned char>(text[0]);
    // The second kind of control characters, U+0080 to U+009F, has two bytes.
    const bool control =
        first < 0x20 || first == 0x7F || (good == 2 && first == 0xC2 && static_cast<unsigned char>(text[1]) < 0xA0);
    if (control) {
      line += ' ';
    } else if (good > 0) {
      line += text.substr(0, good);
    } else {
      for (const char c : text.substr(0, bad)) {
        const auto byte = static_cast<unsigned char>(c);
        line += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
      }
    }
    text.remove_prefix(std::max(good, bad));
  }
  return line;
}

std::vector<std::string> split_list(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n\v\f";
  const char separator = text.find('\n') != std::string_view::npos ? '\n' : ',';
  std::vector<std::string> parts;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(separator), text.size());
    const std::string_view part = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const std::size_t begin = part.find_first_not_of(kBlanks);
    if (begin == std::string_view::npos) continue;
    parts.emplace_back(part.substr(begin, part.find_last_not_of(kBlanks) + 1 - begin));
  }
  return parts;
}

}  // namespace tandem
