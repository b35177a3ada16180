// A model on a backend, without an Engine around them: for commands that look inside a pass.
#pragma once

#include "cli/common.h"
#include "model/model.h"

namespace tandem::cli {

/// Prepares the towers that are wanted, in the precision that the options name, with the kept layers and the
/// calibration that an Engine would take, on all cores. Throws what model::load_model() and engine::choose_eight_bit()
/// throw.
model::Model load_model(backend::Backend& backend, const model::ModelFiles& files, const EngineOptions& options,
                        bool vision, bool text);

}  // namespace tandem::cli
