// A backend that sees what the layers of a model read while it computes.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "backend/forwarding_backend.h"
#include "calibration/layer_map.h"

namespace tandem::calibration {

/// The pass of a model goes through this; it is the same pass, but that nothing is handed from product to product in a
/// form of the backend's own.
class WatchingBackend : public backend::ForwardingBackend {
 public:
  /// All must stay.
  WatchingBackend(backend::Backend& to, const model::Model& model)
      : ForwardingBackend(to), products_(products_of(model, to)) {}

  /// Every pass is watched step by step.
  void replay(const backend::PassKey&, const std::function<void()>& pass) override { pass(); }
  void linear(const backend::LinearArgs& a) override;
  void norm_linear(const backend::NormLinearArgs& a) override;
  void attention(const backend::AttentionArgs& a) override;

 protected:
  virtual bool wants(const Product&) const { return true; }
  /// What a product reads, as float32: `rows` rows, behind the norm where there is one.
  virtual void note(const Product& product, std::vector<float> values, std::int64_t rows, std::int64_t outputs) = 0;

 private:
  const Product* wanted(const backend::PreparedWeight* weight, std::int64_t rows) const;

  std::map<const backend::PreparedWeight*, Product> products_;
};

}  // namespace tandem::calibration
