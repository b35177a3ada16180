// NumPy's file format, as bodies of decoded pixels arrive in it and answers leave in it (NEP 1).
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tandem/engine.h"

namespace tandem::server {

/// The pictures of an array uint8 N x H x W x 3, or H x W x 3 for one, in C order. They lie in the body itself, which
/// each of them keeps alive: nothing is copied. Throws bad_data, unsupported (another type or order), invalid_argument
/// (another shape, no picture) or too_large (more than max_items).
std::vector<HostPixels> pixels_of_npy(const std::shared_ptr<const std::string>& body, int max_items);

/// The head of an array rows x columns of little-endian floats of 4 or 2 bytes, whose values follow row by row.
std::string npy_head(std::size_t rows, std::size_t columns, bool half);

}  // namespace tandem::server
