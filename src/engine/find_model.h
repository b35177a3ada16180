// From a model's name, as users give it, to its files.
#pragma once

#include <string>

#include "model/files.h"

namespace tandem::engine {

/// name: what hub::locate() takes. vocab: tokenizer files that replace the model's own; empty: its own, and for a
/// random model, which has none, the bundled model's. Reads configuration only. Throws not_found, bad_data,
/// unsupported.
model::ModelFiles find_model(const std::string& name, const std::string& vocab);

}  // namespace tandem::engine
