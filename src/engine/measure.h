// What passes of several sizes take, found out by computing some.
#pragma once

#include <vector>

#include "engine/batch_plan.h"
#include "engine/rehearsal.h"

namespace tandem::engine {

/// Computes passes of pictures, or of texts of the usual length, of growing sizes up to `most` items, and beside every
/// size from 16 on of one more (devices that compute in tiles take a step there). Every size is computed three times,
/// at different moments, and the best counts: others disturb. Leaves out sizes that would go beyond `seconds` in all;
/// the first is computed in any case. Throws what a pass throws.
std::vector<PassTime> measure_passes(Rehearsal& rehearsal, std::size_t most, double seconds);

}  // namespace tandem::engine
