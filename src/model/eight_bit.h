// Which layers of a model compute in eight bits, and how: what a user keeps back, and what calibration chose.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "model/config.h"
#include "model/rounded_weight.h"
#include "tandem/types.h"

namespace tandem::model {

/// Whether it quantises layers, so that some may be kept back from it.
constexpr bool is_eight_bit(Precision p) noexcept {
  return p == Precision::int8 || p == Precision::fp8;
}

/// How one linear layer of a block computes in int8 or fp8. The default is eight bits with scales from the data.
struct LayerChoice {
  /// Computed in Backend::kept()'s precision instead. fp8 keeps all of a last block but keys and values anyhow.
  bool keep = false;
  float input_scale = 0;  ///< one step of the layer's static input scale; 0: a scale per row, found as the row comes
  /// SmoothQuant's factors (Xiao et al. 2023, equation 3) [inputs]: they divide what the norm in front gives, and
  /// multiply the weight's columns. Empty: none. Only "qkv" and "fc1" have a norm in front.
  std::vector<float> migration{};
  /// [inputs]: what the norm in front gives on average. It is taken away from the norm's beta, and what the weight
  /// makes of it is added to the bias, in float32: what is left to be rounded is smaller, and so is what rounded
  /// weights multiply. Empty: none.
  std::vector<float> centre{};
  /// Its weight in eight bits, in place of the nearest to the model's own. Null: none.
  std::shared_ptr<const RoundedWeight> rounded{};
  friend bool operator==(const LayerChoice&, const LayerChoice&) = default;
};

/// Every layer that eight-bit precisions quantise: "vision.blocks.0.qkv", ".out", ".fc1", ".fc2", block after block,
/// then the text tower's. Queries, keys and values of a last block, which are multiplied apart, are one layer here.
std::vector<std::string> eight_bit_layers(const Config& config);

/// Whether a pattern is a name; "*" stands for any characters, or none.
bool matches(std::string_view pattern, std::string_view name) noexcept;

/// Choices by a layer's name.
class EightBit {
 public:
  /// Nothing chosen: every layer computes in eight bits.
  EightBit() = default;
  /// Keeps the layers of `config` that one of the patterns matches; a text may hold several, with commas between them.
  /// Throws invalid_argument naming a pattern that matches none.
  EightBit(const Config& config, const std::vector<std::string>& keep);

  /// Throws invalid_argument for a name that is no layer of `config`, for a rounded weight of another shape, for
  /// factors where no norm stands in front or that are not as many as the layer has inputs, and for factors or a scale
  /// that no range gives: not finite, negative, and for a factor zero.
  void set(const Config& config, const std::string& layer, LayerChoice choice);
  /// What was chosen for a layer.
  const LayerChoice& of(std::string_view layer) const noexcept;
  /// Names with anything else than the default, in the order of their letters.
  const std::map<std::string, LayerChoice, std::less<>>& all() const noexcept { return choices_; }
  /// Equal choices have equal texts: for whoever looks for weights prepared with the same ones.
  std::string key() const;

 private:
  std::map<std::string, LayerChoice, std::less<>> choices_;
};

}  // namespace tandem::model
