// Character references of HTML, in the two ways that open_clip's cleaning meets them.
#pragma once

#include <string>

namespace tandem::text {

/// Python's html.unescape: HTML 5's rules, also without semicolons. Linear.
void html_unescape(std::u32string& text);

/// ftfy's unescape_html: only whole references that end in a semicolon, and names that were put in capitals. Linear.
void ftfy_unescape(std::u32string& text);

}  // namespace tandem::text
