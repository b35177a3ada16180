// What the layers of a model read: their ranges and averages.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "calibration/ranges.h"
#include "calibration/watching_backend.h"

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

/// In front of the backend that computes the model in fp32.
class Collector final : public WatchingBackend {
 public:
  /// All must stay. precision: what is calibrated.
  Collector(backend::Backend& to, const model::Model& model, Precision precision)
      : WatchingBackend(to, model), precision_(precision) {}

  /// By EightBit's names.
  const std::map<std::string, LayerInputs>& layers() const noexcept { return layers_; }

 private:
  void note(const Product& product, std::vector<float> values, std::int64_t rows, std::int64_t outputs) override;

  Precision precision_;
  std::map<std::string, LayerInputs> layers_;
};

}  // namespace tandem::calibration
