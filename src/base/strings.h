// Texts: joining values into messages, showing what may be anything, taking lists apart.
#pragma once

#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace tandem {

/// cat("side ", 12, " is too small").
template <class... Parts>
std::string cat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

/// The well-formed UTF-8 sequence that a text begins with, in bytes; or none, and how many bytes one U+FFFD stands for
/// (a maximal subpart, as the Unicode standard recommends in chapter 3.9).
struct Utf8Length {
  std::size_t good = 0, bad = 0;  ///< exactly one of them is not 0
};
Utf8Length utf8_length(std::string_view text) noexcept;

/// One line for a terminal: control characters become spaces, bytes that are no UTF-8 are shown as \xFF.
std::string printable(std::string_view text);

/// "a, b" → {"a", "b"}: a part each line where there are lines, else with commas between them. Blanks around a part are
/// not of it; empty parts are left out.
std::vector<std::string> split_list(std::string_view text);

}  // namespace tandem
