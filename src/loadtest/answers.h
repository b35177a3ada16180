// Whether an answer holds what was asked for.
#pragma once

#include <string>
#include <string_view>

namespace tandem::loadtest {

/// Looks for `items` vectors of one length, finite, in `body`: base64 or numbers in fields named "embedding" of JSON,
/// or the rows of an .npy. Length 1 is asked of each, within 1 %, when `unit`. Returns what is wrong, empty when
/// nothing is.
std::string check_vectors(std::string_view content_type, std::string_view body, int items, bool unit = true);

}  // namespace tandem::loadtest
