// Ranks that are threads of one process and share its memory.
#pragma once

#include <memory>
#include <vector>

#include "parallel/communicator.h"

namespace tandem::parallel {

/// A group of `ranks` communicators, element i of rank i, each to be used by one thread. all_reduce_sum takes f32, f16
/// and bf16 views of equal shape in host memory, adds in float32 in the order of ranks, so that every rank has the same
/// bits every time, and returns when this rank's view holds the sum. `stream` is not used: host calls are done when
/// they return.
///
/// Destroying one rank's communicator takes it out of the group: every sum that the others wait in, or begin later,
/// throws unavailable instead of waiting for ever. Sums of unequal shape or type throw internal on every rank.
/// Throws invalid_argument for fewer than one rank.
std::vector<std::unique_ptr<Communicator>> make_in_process(int ranks);

}  // namespace tandem::parallel
