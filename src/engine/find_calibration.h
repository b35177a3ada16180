// Where a model's calibration is kept, and which choices an Engine makes of it.
#pragma once

#include <filesystem>
#include <vector>

#include "model/calibration.h"
#include "model/files.h"
#include "tandem/engine.h"

namespace tandem::engine {

/// Where `tandem calibrate` keeps the calibration of weights with this hash that it cannot keep beside them.
std::filesystem::path cached_calibration(const std::string& hash);

/// Where a model's calibration may stand, the first that has the precision counting: beside its weights; in the cache
/// folder; among those that this build has made. In the latter two it is named after the weights' hash. A random model
/// has no folder.
std::vector<std::filesystem::path> calibration_places(const model::ModelFiles& files, const std::string& hash);

/// How the layers of a model compute under these options: those that are kept back, and a calibration's scales. Other
/// precisions than int8 and fp8 have nothing to choose. Throws invalid_argument for layers or a calibration that are
/// named for such a precision, and for patterns that match none; not_found for a calibration that is named, or that
/// "auto" asks for, and is not there; bad_data for one that is damaged, or of another model, version or precision.
model::EightBit choose_eight_bit(const model::ModelFiles& files, const EngineOptions& options);

}  // namespace tandem::engine
