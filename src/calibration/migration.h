// SmoothQuant: magnitude moves from what a norm gives into the weight behind it (Xiao et al. 2023).
#pragma once

#include <map>
#include <string>
#include <vector>

#include "calibration/collector.h"
#include "model/files.h"

namespace tandem::calibration {

/// s[j] = max |x[j]|^alpha / max |w[:, j]|^(1 - alpha), for every input j (equation 4), within 1e-4 and 1e4. Sizes are
/// equal.
std::vector<float> migration_factors(const std::vector<float>& inputs, const std::vector<float>& columns, double alpha);

/// The factors of every layer of `seen` that has a norm in front, by EightBit's names. Reads the weights. alpha within
/// 0 and 1.
std::map<std::string, std::vector<float>> migrate(const model::Config& config, model::WeightSource& source,
                                                  const std::map<std::string, LayerInputs>& seen, double alpha);

}  // namespace tandem::calibration
