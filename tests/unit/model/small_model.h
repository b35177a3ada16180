// A small model with seeded random weights under the table's own names, and inputs for it.
#pragma once

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "model/model.h"
#include "model/weights.h"

namespace tandem::model::test {

inline Config small_config() {
  Config c;
  c.name = "small", c.layout = "random", c.architecture = "small";
  c.embed_dim = 24;
  static_cast<TowerConfig&>(c.vision) = {32, 3, 4, 8, 72, backend::ActivationFn::quick_gelu, 1e-5F};
  c.vision.image_size = 16, c.vision.patch = 8;
  static_cast<TowerConfig&>(c.text) = {48, 2, 4, 12, 192, backend::ActivationFn::gelu_erf, 1e-5F};
  c.text.vocab_size = 50, c.text.context_length = 12, c.text.start_id = 48, c.text.end_id = 49;
  return c;
}

/// Every tensor normal around 0 with deviation 0.2 (norms' gammas around 1), so that biases count as much as products.
class SeededSource final : public WeightSource {
 public:
  explicit SeededSource(const Config& config) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal(0, 0.2F);
    for (const WeightSpec& spec : weight_table(config)) {
      Tensor t = host_tensor(DType::f32, spec.shape);
      const bool gamma = spec.name.find("ln_") != std::string::npos && spec.name.ends_with(".weight");
      std::generate_n(t.view().as<float>(), spec.shape.elements(), [&] { return normal(random) + (gamma ? 1 : 0); });
      tensors_.emplace(spec.name, std::move(t));
    }
  }
  std::vector<std::string> names() const override {
    std::vector<std::string> out;
    for (const auto& [name, tensor] : tensors_) out.push_back(name);
    return out;
  }
  std::optional<Info> find(std::string_view name) const override {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) return std::nullopt;
    return Info{found->second.dtype(), found->second.shape()};
  }
  ConstView get(std::string_view name) override { return tensors_.find(name)->second.view(); }
  void release(std::string_view) override {}
  std::string hash() const override { return "seeded"; }

 private:
  std::map<std::string, Tensor, std::less<>> tensors_;
};

inline ModelFiles small_files(const Config& config = small_config()) {
  ModelFiles files;
  files.config = config;
  files.open_weights = [config] { return std::make_unique<SeededSource>(config); };
  return files;
}

/// Three pictures, and four texts of which three begin alike.
struct SmallInputs {
  explicit SmallInputs(const Config& c)
      : pixels(host_tensor(DType::u8, {3, c.vision.image_size, c.vision.image_size, 3})) {
    std::mt19937 random(3);
    std::generate_n(pixels.view().as<std::uint8_t>(), pixels.bytes(),
                    [&] { return static_cast<std::uint8_t>(random() % 256); });
  }
  std::vector<std::span<const std::int32_t>> spans() const { return {texts.begin(), texts.end()}; }
  Tensor pixels;
  std::vector<std::vector<std::int32_t>> texts{
      {48, 5, 6, 7, 49}, {48, 5, 6, 49}, {48, 5, 6, 8, 9, 10, 49}, {48, 5, 6, 49, 3}};
};

inline std::vector<float> floats(ConstView v) {
  return {v.as<float>(), v.as<float>() + v.shape.elements()};
}

/// The vectors of all pictures, then of all texts sharing their prefix, then of the first text alone.
inline std::vector<float> all_vectors(Execution& ex, const Model& m) {
  const SmallInputs in(m.config);
  auto out = floats(
      encode_images(ex, m.config.vision, *m.vision, m.config.embed_dim, in.pixels.view(), {true, false, {}}).projected);
  PackedTexts packed;
  const auto spans = in.spans();
  for (const std::size_t count : {spans.size(), std::size_t{1}}) {
    pack_texts(m.config.text, std::span(spans).first(count), true, packed);
    const auto texts =
        floats(encode_texts(ex, m.config.text, *m.text, m.config.embed_dim, packed, {true, false, {}}).projected);
    out.insert(out.end(), texts.begin(), texts.end());
  }
  return out;
}

}  // namespace tandem::model::test
