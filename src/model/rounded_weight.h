// Weights that are eight-bit numbers already: what calibration found better than the nearest to each of a model's own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "model/config.h"
#include "tandem/types.h"
#include "tensor/tensor.h"

namespace tandem::model {

/// Element = code times its output's step. It multiplies what the layer's norm gives once LayerChoice's averages are
/// taken away and its factors divided by.
struct RoundedWeight {
  ConstView codes;                     ///< i8 within [-127, 127], or f8e4m3 without NaN [outputs, inputs]
  std::vector<float> steps;            ///< [outputs], not negative
  std::string digest;                  ///< equal ones have equal texts
  std::shared_ptr<const void> memory;  ///< of the codes
};

using RoundedWeights = std::map<std::string, std::shared_ptr<const RoundedWeight>, std::less<>>;

/// One with codes of its own: values [outputs, inputs] are multiples of the steps (int8) or E4M3 numbers of them (fp8).
/// What is not becomes the nearest.
std::shared_ptr<const RoundedWeight> make_rounded(Precision precision, std::span<const float> values,
                                                  std::vector<float> steps);

/// The elements as f32 [outputs, inputs].
Tensor values_of(const RoundedWeight& weight);

/// The outputs and inputs of one of eight_bit_layers().
Shape layer_shape(const Config& config, std::string_view layer);

/// A digest of all of a file's bytes.
std::string rounded_hash(std::span<const std::byte> bytes);

/// Reads safetensors with "LAYER.codes" (I8 or F8_E4M3) and "LAYER.steps" (F32 [outputs]) for each of `layers`, and
/// nothing else. Codes stay where they are, and `memory` with them. `where` names the file in messages. Throws bad_data
/// that names the tensor.
RoundedWeights read_rounded(std::span<const std::byte> bytes, const std::shared_ptr<const void>& memory,
                            const std::string& where, const Config& config, Precision precision,
                            const std::vector<std::string>& layers);

}  // namespace tandem::model
