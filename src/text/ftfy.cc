#include "text/ftfy.h"

#include <algorithm>
#include <string_view>

#include "text/html.h"
#include "text/mojibake.h"
#include "text/unicode.h"

namespace tandem::text {
namespace {

constexpr std::size_t kLongestSegment = 1'000'000;  // ftfy's max_decode_length
constexpr std::size_t kWork = std::size_t{1} << 26;
constexpr int kFewestRounds = 64;

void uncurl_quotes(std::u32string& text) {
  for (char32_t& c : text) {
    if (c == 0x2bc || (c >= 0x2018 && c <= 0x201b)) c = U'\'';
    if (c >= 0x201c && c <= 0x201f) c = U'"';
  }
}

void fix_line_breaks(std::u32string& text) {
  std::size_t out = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char32_t c = text[i];
    if (c == U'\r' && i + 1 < text.size() && text[i + 1] == U'\n') continue;
    text[out++] = c == U'\r' || c == 0x2028 || c == 0x2029 || c == 0x85 ? U'\n' : c;
  }
  text.resize(out);
}

/// Removes ESC [ digits-and-semicolons letter. A failed try reads digits only, and no digit can start another.
void remove_terminal_escapes(std::u32string& text) {
  constexpr char32_t kEscape = 0x1b;
  if (text.find(kEscape) == std::u32string::npos) return;
  std::u32string out;
  for (std::size_t i = 0; i < text.size();) {
    if (text[i] == kEscape && i + 1 < text.size() && text[i + 1] == U'[') {
      std::size_t end = i + 2;
      while (end < text.size() && (text[end] == U';' || (flags_of(text[end]) & kPyDigit) != 0)) ++end;
      if (end < text.size() && ((text[end] >= U'a' && text[end] <= U'z') || (text[end] >= U'A' && text[end] <= U'Z'))) {
        i = end + 1;
        continue;
      }
    }
    out += text[i++];
  }
  text = std::move(out);
}

bool is_removed_control(char32_t c) {
  return c < 0x09 || c == 0x0b || (c >= 0x0e && c < 0x20) || c == 0x7f || (c >= 0x206a && c < 0x2070) || c == 0xfeff ||
         (c >= 0xfff9 && c < 0xfffd);
}

/// Characters of ASCII that no step changes by themselves; lines of them alone are left as they are.
bool is_plain(char32_t c) {
  return c == U'\t' || c == U'\n' || c == U'\f' || (c >= 0x20 && c < 0x7f && c != U'&');
}

void fix_segment(std::u32string& text, bool unescape) {
  if (std::all_of(text.begin(), text.end(), is_plain)) return;
  const int most = static_cast<int>(std::max<std::size_t>(kFewestRounds, kWork / (text.size() + 1)));
  std::u32string before;
  for (int round = 0; round < most; ++round) {
    before = text;
    if (unescape) ftfy_unescape(text);
    text = fix_encoding(std::move(text), most);
    fix_c1_controls(text);
    fix_ligatures(text);
    fix_widths(text);
    uncurl_quotes(text);
    fix_line_breaks(text);
    // ftfy's fix_surrogates comes here: UTF-8 has no surrogates and no step makes one.
    remove_terminal_escapes(text);
    std::erase_if(text, is_removed_control);
    normalise_nfc(text, Whose::py);
    if (text == before) return;
  }
}

}  // namespace

void ftfy_fix_text(std::u32string& text) {
  std::u32string out;
  out.reserve(text.size());
  bool unescape = true;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t newline = text.find(U'\n', at);
    std::size_t end = newline == std::u32string::npos ? text.size() : newline + 1;
    end = std::min(end, at + kLongestSegment);
    std::u32string segment = text.substr(at, end - at);
    // From the first "<" on, the text is taken for HTML, whose references ftfy leaves alone.
    if (segment.find(U'<') != std::u32string::npos) unescape = false;
    fix_segment(segment, unescape);
    out += segment;
    at = end;
  }
  text = std::move(out);
}

}  // namespace tandem::text
