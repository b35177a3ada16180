// Inputs that stay in memory, and their vectors in however a model computes.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "backend/backend.h"
#include "model/model.h"

namespace tandem::calibration {

/// What the towers read: pixels u8 [S, S, 3] of each picture, ids of each text with start and end, no padding. A kind
/// without inputs is left out.
struct Inputs {
  std::vector<std::vector<std::uint8_t>> pictures;
  std::vector<std::vector<std::int32_t>> texts;
};

/// Unit vectors, a row an input.
struct Vectors {
  std::vector<float> images, texts;
};

/// Told how many inputs more are done. May throw, to stop.
using Step = std::function<void(std::size_t)>;

/// The vectors of all inputs, on the backend that loaded the model or on one that watches it. `batch`: inputs of a
/// pass. Throws invalid_argument for a picture of another size.
Vectors embed(backend::Backend& backend, const model::Model& model, const Inputs& inputs, std::size_t batch,
              const Step& step);

}  // namespace tandem::calibration
