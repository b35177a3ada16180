// How many files, and so connections, the process may have open.
#pragma once

#include <cstddef>

namespace tandem::server {

/// Raises the process's own (soft) limit of open files to the most that the system lets it have (hard); returns the
/// limit now in force.
std::size_t raise_descriptor_limit() noexcept;

/// How many of `wanted` connections fit into so many descriptors beside everything else that the process opens; at
/// least 1.
int connections_within(std::size_t descriptors, int wanted) noexcept;

}  // namespace tandem::server
