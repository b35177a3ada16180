// Where a model's calibration is kept, and which choices an Engine makes of it.
#pragma once

#include <filesystem>
#include <vector>

#include "model/calibration.h"
#include "model/files.h"
#include "tandem/engine.h"

namespace tandem::engine {

/// Where a model's calibration may stand, the first that exists counting: beside its weights, then in the cache folder,
/// under the weights' hash. A random model has no folder.
std::vector<std::filesystem::path> calibration_places(const model::ModelFiles& files, const std::string& hash);

/// How the layers of a model compute under these options: those that are kept back, and a calibration's scales. Other
/// precisions than int8 and fp8 have nothing to choose. Throws invalid_argument for layers or a calibration that are
/// named for such a precision, and for patterns that match none; not_found for a calibration that is named, or that
/// "auto" asks for, and is not there; bad_data for one that is damaged, or of another model, version or precision.
model::EightBit choose_eight_bit(const model::ModelFiles& files, const EngineOptions& options);

}  // namespace tandem::engine
