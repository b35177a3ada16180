// A seeded model of twelve blocks whose middle has what trained CLIPs show: a few inputs of a layer hundreds of times
// larger than the others, with weights that are as much smaller.
#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "calibration/passes.h"
#include "unit/model/small_model.h"

namespace tandem::calibration::test {

inline model::Config outlier_config() {
  model::Config c;
  c.name = "outliers", c.layout = "random", c.architecture = "outliers";
  c.embed_dim = 32;
  static_cast<model::TowerConfig&>(c.vision) = {48, 12, 4, 12, 192, backend::ActivationFn::quick_gelu, 1e-5F};
  c.vision.image_size = 16, c.vision.patch = 4;
  static_cast<model::TowerConfig&>(c.text) = {32, 2, 4, 8, 128, backend::ActivationFn::gelu_erf, 1e-5F};
  c.text.vocab_size = 50, c.text.context_length = 12, c.text.start_id = 48, c.text.end_id = 49;
  return c;
}

/// What is large in the model.
struct Outliers {
  float fc2 = 1;   ///< three inputs of blocks 5's and 6's fc2 are so many times what they were, their columns smaller
  float norm = 1;  ///< three channels of the norm in front of blocks 4's, 5's and 6's fc1, the same
};

class OutlierSource final : public model::WeightSource {
 public:
  OutlierSource(const model::Config& config, const Outliers& outliers) : from_(config) {
    const std::vector<std::int64_t> few{3, 17, 40};
    for (const std::string& name : from_.names()) {
      const ConstView view = from_.get(name);
      auto* values = const_cast<float*>(view.as<float>());
      const std::int64_t count = view.shape.elements();
      const bool matrix = view.shape.rank() == 2 && name.find(".blocks.") != std::string::npos;
      if (matrix) {  // so that every block adds a little to the stream, and products are about as large as inputs
        for (std::int64_t i = 0; i < count; ++i) values[i] *= 0.6F;
      }
      const auto columns = [&](float factor) {
        for (std::int64_t i = 0; i < count; ++i) {
          for (const std::int64_t column : few) values[i] *= i % view.shape.columns() == column ? factor : 1;
        }
      };
      for (const int block : {5, 6}) {
        const std::string at = "vision.blocks." + std::to_string(block) + ".mlp.";
        // A large bias makes the activation a large constant and a little of what it was.
        for (const std::int64_t column : few) {
          if (name == at + "fc1.bias") values[column] = outliers.fc2 > 1 ? outliers.fc2 : values[column];
        }
        if (name == at + "fc2.weight") columns(1 / outliers.fc2);
      }
      for (const int block : {4, 5, 6}) {
        const std::string at = "vision.blocks." + std::to_string(block) + ".";
        for (const std::int64_t column : few) {
          if (name == at + "ln_2.weight" || name == at + "ln_2.bias") values[column] *= outliers.norm;
        }
        if (name == at + "mlp.fc1.weight") columns(1 / outliers.norm);
      }
    }
  }
  std::vector<std::string> names() const override { return from_.names(); }
  std::optional<Info> find(std::string_view name) const override { return from_.find(name); }
  ConstView get(std::string_view name) override { return from_.get(name); }
  void release(std::string_view) override {}
  std::string hash() const override { return "0123456789abcdef"; }

 private:
  model::test::SeededSource from_;
};

inline model::ModelFiles outlier_files(const Outliers& outliers) {
  model::ModelFiles files;
  files.config = outlier_config();
  files.open_weights = [config = files.config, outliers] { return std::make_unique<OutlierSource>(config, outliers); };
  return files;
}

inline Inputs seeded_inputs(const model::Config& c, int pictures, int texts) {
  std::mt19937 random(11);
  Inputs in;
  for (int i = 0; i < pictures; ++i) {
    auto& picture = in.pictures.emplace_back(static_cast<std::size_t>(c.vision.image_size * c.vision.image_size * 3));
    for (auto& value : picture) value = static_cast<std::uint8_t>(random());
  }
  for (int i = 0; i < texts; ++i) {
    auto& ids = in.texts.emplace_back(1, c.text.start_id);
    for (int n = 0; n < 3 + i % 4; ++n) ids.push_back(static_cast<std::int32_t>(random() % 48));
    ids.push_back(c.text.end_id);
  }
  return in;
}

}  // namespace tandem::calibration::test
