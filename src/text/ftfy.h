// ftfy.fix_text with its default settings: what open_clip does to a text before anything else.
#pragma once

#include <string>

namespace tandem::text {

/// ftfy 6.3.1's fix_text, line by line until nothing changes.
///
/// A line is worked over at most max(64, 2^26 / length) times, so that nested references ("&amp;amp;amp;…") cannot take
/// quadratic time; ftfy itself would go on. Only texts nested deeper than 64 can notice, and only above 256 KiB or so.
void ftfy_fix_text(std::u32string& text);

}  // namespace tandem::text
