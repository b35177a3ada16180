#include "calibration/migration.h"

#include <algorithm>
#include <cmath>

#include "calibration/layer_map.h"
#include "model/weights.h"

namespace tandem::calibration {
std::vector<float> migration_factors(const std::vector<float>& inputs, const std::vector<float>& columns,
                                     double alpha) {
  constexpr double kLeast = 1e-4, kMost = 1e4, kNothing = 1e-12;
  std::vector<float> factors;
  for (std::size_t j = 0; j < inputs.size(); ++j) {
    const double x = std::max<double>(inputs[j], kNothing), w = std::max<double>(columns[j], kNothing);
    factors.push_back(static_cast<float>(std::clamp(std::pow(x, alpha) / std::pow(w, 1 - alpha), kLeast, kMost)));
  }
  return factors;
}

std::map<std::string, std::vector<float>> migrate(const model::Config& config, model::WeightSource& source,
                                                  const std::map<std::string, LayerInputs>& seen, double alpha) {
  std::map<std::string, std::vector<float>> factors;
  model::WeightReader reader(config, source);
  for (const model::WeightSpec& spec : weight_table(config)) {
    const auto found = seen.find(layer_of(spec.name));
    if (found == seen.end() || !has_norm(found->first)) continue;
    std::vector<float> columns(static_cast<std::size_t>(spec.shape[1]), 0.0F);
    {
      const auto loaded = reader.read(spec);
      const Tensor weight = host_tensor(DType::f32, spec.shape);
      convert(loaded.view, weight.view());
      const float* value = weight.view().as<float>();
      for (std::int64_t i = 0; i < spec.shape.elements(); ++i) {
        float& column = columns[static_cast<std::size_t>(i % spec.shape[1])];
        column = std::max(column, std::abs(value[i]));
      }
    }
    reader.release(spec);
    factors[found->first] = migration_factors(found->second.channels, columns, alpha);
  }
  return factors;
}

}  // namespace tandem::calibration
