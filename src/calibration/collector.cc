#include "calibration/collector.h"

#include <algorithm>
#include <cmath>

namespace tandem::calibration {

void Collector::note(const Product& product, std::vector<float> values, std::int64_t rows, std::int64_t outputs) {
  LayerInputs& layer = layers_[product.layer];
  const std::size_t width = values.size() / static_cast<std::size_t>(rows);
  layer.multiply_adds += static_cast<double>(values.size()) * static_cast<double>(outputs);
  layer.values.add(values);
  layer.rows.add(precision_, values, width);
  layer.channels.resize(width), layer.sums.resize(width);
  layer.row_count += static_cast<double>(rows);
  for (std::size_t i = 0; i < values.size(); ++i) {
    float& channel = layer.channels[i % width];
    channel = std::max(channel, std::abs(values[i]));
    layer.sums[i % width] += values[i];
  }
}

}  // namespace tandem::calibration
