#include "calibration/collector.h"

#include <algorithm>
#include <cmath>

#include "verify/probe.h"

namespace tandem::calibration {

using namespace backend;  // NOLINT: its argument structs, in every line

void Collector::note(const Product& product, const std::vector<float>& values, std::int64_t rows,
                     std::int64_t outputs) {
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

void Collector::linear(const LinearArgs& a) {
  LinearArgs plain = a;
  plain.reader = nullptr;
  const auto found = products_.find(a.weight);
  if (found != products_.end() && a.x.view.rows() > 0) {
    note(found->second, verify::fetch(to_, a.x.view), a.x.view.rows(), a.out.view.columns());
  }
  to_.linear(plain);
}

void Collector::norm_linear(const NormLinearArgs& a) {
  NormLinearArgs plain = a;
  plain.reader = nullptr;
  const auto found = products_.find(a.weight);
  if (found != products_.end() && a.x.rows() > 0) {
    // A backend may normalise inside of the product: here the rows are wanted by themselves.
    const std::int64_t rows = a.x.rows(), columns = a.x.columns();
    const DType type = a.normalized.view.dtype;
    const Buffer memory = to_.allocate(static_cast<std::size_t>(rows * columns) * size_of(type));
    const View normalized(memory.data(), type, {rows, columns});
    to_.layer_norm({a.x, a.gamma, a.beta, a.eps, {normalized, {}}, a.precision, nullptr});
    note(found->second, verify::fetch(to_, normalized), rows, a.out.view.columns());
  }
  to_.norm_linear(plain);
}

void Collector::attention(const AttentionArgs& a) {
  AttentionArgs plain = a;
  plain.reader = nullptr;
  to_.attention(plain);
}

}  // namespace tandem::calibration
