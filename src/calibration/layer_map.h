// Which layer a weight is.
#pragma once

#include <map>
#include <string>

#include "model/model.h"

namespace tandem::calibration {

/// A product of a block, as a backend is asked for it. The last block's queries have their own, and its keys and
/// values.
struct Product {
  std::string layer;  ///< EightBit's name
  const char* part;   ///< "qkv", "q", "kv", "out", "fc1", "fc2"
  const model::Linear* linear = nullptr;
  const model::Norm* norm = nullptr;  ///< in front; none: there is none
};

/// A loaded model's, whose blocks stay in memory, by their weights.
std::map<const backend::PreparedWeight*, Product> products_of(const model::Model& model, backend::Backend& backend);

}  // namespace tandem::calibration
