// Files of measured choices: a line a choice, and what it is for stands before its last word.
#pragma once

#include <string>

namespace tandem::backend {

/// Lines of `old` with those of `found` (Backend::tuned()) in their place where they are for the same; the rest of
/// `found` behind them. What was measured for other shapes, versions and kinds stays, and so do comments.
std::string merge_tuning(const std::string& old, const std::string& found);

/// merge_tuning() into the file, which need not be there; it is replaced as a whole. Returns its text. Throws io_error
/// naming the file.
std::string add_tuning(const std::string& path, const std::string& found);

}  // namespace tandem::backend
