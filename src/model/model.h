// A model on one backend: its configuration and prepared weights, immutable once loaded and shared by replicas.
#pragma once

#include <memory>
#include <optional>

#include "model/files.h"
#include "model/towers.h"

namespace tandem::model {

struct LoadOptions {
  Precision precision = Precision::fp32;  ///< resolved by the backend
  bool vision = true, text = true;
};

struct Model {
  Config config;
  Precision precision = Precision::fp32;
  std::optional<VisionWeights> vision;
  std::optional<TextWeights> text;
  float logit_scale = 1;           ///< multiplies cosines: exp of the stored value
  std::size_t parameters = 0;      ///< of the loaded towers
  std::size_t weight_bytes = 0;    ///< as stored by the backend
  std::string hash;                ///< of the checkpoint, for provenance
};

/// Reads, checks and prepares every weight, releasing each from memory as soon as the backend has its own form.
/// Throws bad_data naming the tensor, what was found and what was expected.
Model load_model(const ModelFiles& files, backend::Backend& backend, const LoadOptions& options);

}  // namespace tandem::model
