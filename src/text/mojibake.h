// ftfy's repair of text that was decoded in the wrong encoding ("mojibake"), step for step.
#pragma once

#include <string>
#include <string_view>

namespace tandem::text {

/// Whether ftfy's heuristic (badness.is_bad) finds an unlikely sequence. Linear.
bool looks_bad(std::u32string_view text);

/// ftfy.fix_encoding. Repeats until nothing changes, at most `rounds` times.
std::u32string fix_encoding(std::u32string text, int rounds);

/// ftfy's fix_c1_controls: U+0080 to U+009F read as Windows-1252.
void fix_c1_controls(std::u32string& text);

}  // namespace tandem::text
