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

/// The layer whose weight a tensor of the table is: "vision.blocks.5.attn.qkv.weight" is "vision.blocks.5.qkv". Empty:
/// of none.
std::string layer_of(const std::string& tensor);

/// Whether a norm stands in front of a layer, which may take something over from it.
inline bool has_norm(const std::string& layer) {
  return layer.ends_with(".qkv") || layer.ends_with(".fc1");
}

/// A loaded model's, whose blocks stay in memory, by their weights.
std::map<const backend::PreparedWeight*, Product> products_of(const model::Model& model, backend::Backend& backend);

}  // namespace tandem::calibration
