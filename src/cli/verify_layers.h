// tandem verify --layers: which layer of a model parts from the one that it is compared with.
#pragma once

#include <vector>

#include "cli/verify_side.h"
#include "verify/layers.h"

namespace tandem::cli {

/// The first `items` pictures and texts, evenly from all, through both models side by side; suspects are marked. Throws
/// what loading throws, invalid_argument for two different networks.
std::vector<verify::LayerError> compare_layers(const CommonOptions& got, const CommonOptions& want,
                                               const VerifyInputs& inputs, std::size_t items, Console& console);

/// A line each, for scripts or as two tables for people.
void print_layers(const std::vector<verify::LayerError>& layers, Console& console);

/// "vision.blocks.5.fc2 (its output is 2 times what it should be), …"; empty where no layer is suspect.
std::string suspects_text(const std::vector<verify::LayerError>& layers);

}  // namespace tandem::cli
