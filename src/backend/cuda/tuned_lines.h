// The lines of a tuning file: what was measured of a shape of products.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace tandem::backend::cuda {

/// Bucket of rows, outputs, inputs, and the kind of call.
using ProductShape = std::array<std::int64_t, 4>;

/// "NAME VERSION ROWS OUTPUTS INPUTS KIND WORD" and the end of the line.
std::string tuned_line(std::string_view name, std::size_t version, const ProductShape& shape, std::string_view word);

/// Calls `take` for every line of this name and version; lines that do not parse are left out. Returns for how many it
/// said true.
int take_tuned_lines(const std::string& text, std::string_view name, std::size_t version,
                     const std::function<bool(const ProductShape& shape, const std::string& word)>& take);

}  // namespace tandem::backend::cuda
