// A backend that computes some layers of a model with another model's weights.
#pragma once

#include <map>
#include <set>
#include <string>

#include "backend/forwarding_backend.h"
#include "calibration/layer_map.h"

namespace tandem::calibration {

/// Both models are of one network and one precision; one of them has every layer kept back. Which layers of `model`
/// are taken from `other` can change between passes: a layer is put back without loading anything.
class Switched final : public backend::ForwardingBackend {
 public:
  /// All must stay.
  Switched(backend::Backend& to, const model::Model& model, const model::Model& other);

  /// EightBit's names.
  void take(std::set<std::string> layers) { taken_ = std::move(layers); }

  /// Every pass may be another one.
  void replay(const backend::PassKey&, const std::function<void()>& pass) override { pass(); }
  void linear(const backend::LinearArgs& a) override;
  void norm_linear(const backend::NormLinearArgs& a) override;
  void attention(const backend::AttentionArgs& a) override;

 private:
  /// The product that stands for this weight now; null: the weight's own.
  const Product* instead(const backend::PreparedWeight* weight) const;
  const backend::PreparedWeight* reader(const backend::PreparedWeight* weight) const;

  struct Pair {
    Product own, other;
  };
  std::map<const backend::PreparedWeight*, Pair> pairs_;
  std::set<std::string> taken_;
};

}  // namespace tandem::calibration
