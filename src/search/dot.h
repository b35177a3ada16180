// Inner products of one query with consecutive rows; the kernel is chosen by what the processor has.
#pragma once

#include <cstddef>

namespace tandem::search {

/// scores[r] = sum over i of query[i] * rows[r * dim + i], summed in float32 in a fixed order, so that a row's score
/// does not depend on its place in the index.
using DotRows = void (*)(const float* query, const float* rows, std::size_t count, std::size_t dim, float* scores);

/// The fastest kernel that this processor runs.
DotRows choose_dot_rows() noexcept;

/// Kernels by name, for tests.
void dot_rows_portable(const float* query, const float* rows, std::size_t count, std::size_t dim, float* scores);

}  // namespace tandem::search
