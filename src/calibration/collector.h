// A backend that watches a model compute, and notes what its layers read.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "backend/forwarding_backend.h"
#include "calibration/layer_map.h"
#include "calibration/ranges.h"

namespace tandem::calibration {

/// What one layer read.
struct LayerInputs {
  Magnitudes values;
  RowErrors rows;               ///< in the precision that is calibrated
  std::vector<float> channels;  ///< the largest magnitude of every input
  std::vector<double> sums;     ///< of every input, over the rows
  double row_count = 0;
  double multiply_adds = 0;
};

/// The pass of a model in fp32 goes through this; it is the same pass, but that nothing is handed from product to
/// product in a form of the backend's own.
class Collector final : public backend::ForwardingBackend {
 public:
  /// All must stay. precision: what is calibrated.
  Collector(backend::Backend& to, const model::Model& model, Precision precision)
      : ForwardingBackend(to), precision_(precision), products_(products_of(model, to)) {}

  /// By EightBit's names.
  const std::map<std::string, LayerInputs>& layers() const noexcept { return layers_; }

  /// Every pass is watched step by step.
  void replay(const backend::PassKey&, const std::function<void()>& pass) override { pass(); }
  void linear(const backend::LinearArgs& a) override;
  void norm_linear(const backend::NormLinearArgs& a) override;
  void attention(const backend::AttentionArgs& a) override;

 private:
  void note(const Product& product, const std::vector<float>& values, std::int64_t rows, std::int64_t outputs);

  Precision precision_;
  std::map<const backend::PreparedWeight*, Product> products_;
  std::map<std::string, LayerInputs> layers_;
};

}  // namespace tandem::calibration
