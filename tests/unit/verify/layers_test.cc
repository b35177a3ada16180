// The error of every layer, and the layer that somebody changed.
#include "verify/layers.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "backend/cpu/cpu_backend.h"
#include "backend/reference/reference_backend.h"
#include "unit/model/small_model.h"
#include "verify/difference.h"

namespace tandem::verify {
namespace {

using model::test::SeededSource;
using model::test::small_config;

/// The seeded weights after `change`, which gets a tensor's name and values.
class ChangedSource final : public model::WeightSource {
 public:
  using Change = std::function<void(const std::string& name, const Shape& shape, std::span<float> values)>;
  ChangedSource(const model::Config& config, const Change& change) : from_(config) {
    for (const std::string& name : from_.names()) {
      const ConstView view = from_.get(name);
      change(name, view.shape, {const_cast<float*>(view.as<float>()), static_cast<std::size_t>(view.shape.elements())});
    }
  }
  std::vector<std::string> names() const override { return from_.names(); }
  std::optional<Info> find(std::string_view name) const override { return from_.find(name); }
  ConstView get(std::string_view name) override { return from_.get(name); }
  void release(std::string_view) override {}
  std::string hash() const override { return "changed"; }

 private:
  SeededSource from_;
};

model::Config deep_config() {
  model::Config c = small_config();
  c.vision.layers = 4, c.text.layers = 3;
  return c;
}

model::Model load(backend::Backend& backend, const ChangedSource::Change& change = {},
                  Precision precision = Precision::fp32) {
  model::ModelFiles files = model::test::small_files(deep_config());
  ChangedSource source(
      files.config, change ? change : [](const std::string&, const Shape&, std::span<float>) {});
  model::LoadOptions options;
  options.precision = precision;
  return model::load_model(files, source, backend, options);
}

LayerInputs inputs() {
  const model::Config c = deep_config();
  LayerInputs in;
  std::mt19937 random(5);
  for (int i = 0; i < 3; ++i) {
    auto& picture = in.pictures.emplace_back(static_cast<std::size_t>(c.vision.image_size * c.vision.image_size * 3));
    for (auto& value : picture) value = static_cast<std::uint8_t>(random());
    std::vector<std::int32_t> ids{c.text.start_id};
    for (int n = 0; n < 3 + i; ++n) ids.push_back(static_cast<std::int32_t>(random() % 48));
    ids.push_back(c.text.end_id);
    in.texts.push_back(std::move(ids));
  }
  return in;
}

/// As eight bits store a matrix: every row in steps of its own largest value / 127.
void quantise(const std::string& name, const Shape& shape, std::span<float> values) {
  if (name.find(".blocks.") == std::string::npos || shape.rank() != 2) return;
  const auto columns = static_cast<std::size_t>(shape.columns());
  for (std::size_t at = 0; at < values.size(); at += columns) {
    float most = 0;
    for (const float v : values.subspan(at, columns)) most = std::max(most, std::abs(v));
    for (float& v : values.subspan(at, columns)) v = std::round(v / most * 127) * most / 127;
  }
}

std::vector<std::string> suspects(const std::vector<LayerError>& layers) {
  std::vector<std::string> names;
  for (const LayerError& l : layers) {
    if (!l.suspicion.empty()) names.push_back(l.layer);
  }
  return names;
}

const LayerError& layer(const std::vector<LayerError>& layers, const std::string& name) {
  for (const LayerError& l : layers) {
    if (l.layer == name) return l;
  }
  throw std::runtime_error("no layer " + name);
}

TEST(Layers, EveryLayerAndBlockIsThereAndTheSameModelHasNoError) {
  const auto reference = backend::make_reference_backend();
  const auto model = load(*reference);
  const Side side{*reference, model};
  const auto layers = profile_layers(side, side, inputs());
  std::size_t expected = 3 + 2;  // patch embedding, ln_pre, projection; tokens, projection
  for (const std::string tower : {"vision", "text"}) {
    for (int i = 0; i < (tower == "vision" ? 4 : 3); ++i) {
      const std::string at = tower + ".blocks." + std::to_string(i);
      EXPECT_EQ(layer(layers, at).kind, "block");
      for (const char* part : {"qkv", "out", "fc1", "fc2"}) EXPECT_EQ(layer(layers, at + "." + part).kind, part);
      expected += 5;
    }
    EXPECT_EQ(layer(layers, tower + ".projection").kind, "projection");
  }
  EXPECT_EQ(layers.size(), expected);
  for (const LayerError& l : layers) {
    EXPECT_EQ(l.relative_error, 0) << l.layer;
    EXPECT_NEAR(l.cosine, 1, 1e-12) << l.layer;
    EXPECT_NEAR(l.gain, 1, 1e-12) << l.layer;
  }
}

TEST(Layers, AnotherBackendErrsByRoundingAlone) {
  const auto reference = backend::make_reference_backend();
  const auto cpu = backend::make_cpu_backend({2, false, "", {}, 0});
  const auto want = load(*reference), got = load(*cpu);
  auto layers = profile_layers({*cpu, got}, {*reference, want}, inputs());
  for (const LayerError& l : layers) EXPECT_LT(l.relative_error, 1e-5) << l.layer;
  find_suspects(layers, Precision::fp32, Precision::fp32);
  EXPECT_TRUE(suspects(layers).empty());
}

class ChangedLayer : public testing::TestWithParam<std::pair<const char*, const char*>> {};

TEST_P(ChangedLayer, IsNamedAndNoOther) {
  const auto [tensor, name] = GetParam();
  const auto backend = backend::make_reference_backend();
  const auto want = load(*backend);
  for (const bool eight_bits : {false, true}) {
    for (const double by : {2.0, 0.5, -1.0}) {
      const auto got = load(*backend, [&, tensor = std::string(tensor)](const std::string& at, const Shape& shape,
                                                                        std::span<float> values) {
        if (eight_bits) quantise(at, shape, values);
        if (at != tensor) return;
        for (float& v : values) v *= static_cast<float>(by);
      });
      auto layers = profile_layers({*backend, got}, {*backend, want}, inputs());
      find_suspects(layers, eight_bits ? Precision::int8 : Precision::fp32, Precision::fp32);
      EXPECT_EQ(suspects(layers), std::vector<std::string>{name}) << tensor << " times " << by;
      if (!eight_bits) {
        for (const LayerError& l : layers) {
          if (l.kind == "block" || l.layer == name) continue;
          EXPECT_EQ(l.relative_error, 0) << l.layer;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(EveryKind, ChangedLayer,
                         testing::Values(std::pair{"vision.blocks.1.attn.qkv.weight", "vision.blocks.1.qkv"},
                                         std::pair{"vision.blocks.3.attn.qkv.weight", "vision.blocks.3.qkv"},
                                         std::pair{"vision.blocks.0.attn.out.weight", "vision.blocks.0.out"},
                                         std::pair{"text.blocks.1.mlp.fc1.weight", "text.blocks.1.fc1"},
                                         std::pair{"text.blocks.2.mlp.fc2.weight", "text.blocks.2.fc2"},
                                         std::pair{"vision.blocks.2.ln_2.weight", "vision.blocks.2.fc1"},
                                         std::pair{"vision.patch_embed.weight", "vision.patch_embed"},
                                         std::pair{"vision.ln_pre.weight", "vision.ln_pre"},
                                         std::pair{"text.projection", "text.projection"}));

TEST(Layers, OneChannelsScaleIsNamed) {
  const auto backend = backend::make_reference_backend();
  const auto want = load(*backend);
  const auto got = load(*backend, [](const std::string& at, const Shape& shape, std::span<float> values) {
    quantise(at, shape, values);
    if (at != "vision.blocks.2.mlp.fc2.weight") return;
    for (float& v :
         values.subspan(static_cast<std::size_t>(5 * shape.columns()), static_cast<std::size_t>(shape.columns()))) {
      v *= 2;
    }
  });
  auto layers = profile_layers({*backend, got}, {*backend, want}, inputs());
  find_suspects(layers, Precision::int8, Precision::fp32);
  EXPECT_EQ(suspects(layers), std::vector<std::string>{"vision.blocks.2.fc2"});
  EXPECT_EQ(layer(layers, "vision.blocks.2.fc2").worst_channel, 5);
}

TEST(Layers, BlocksAddErrorsUpAndAreNeverSuspects) {
  const auto backend = backend::make_reference_backend();
  const auto want = load(*backend);
  const auto got = load(*backend, [](const std::string& at, const Shape&, std::span<float> values) {
    if (at == "vision.blocks.1.mlp.fc2.weight") {
      for (float& v : values) v *= 1.5F;
    }
  });
  auto layers = profile_layers({*backend, got}, {*backend, want}, inputs());
  find_suspects(layers, Precision::fp32, Precision::fp32);
  EXPECT_EQ(layer(layers, "vision.blocks.0").relative_error, 0);
  for (const char* block : {"vision.blocks.1", "vision.blocks.2", "vision.blocks.3"}) {
    EXPECT_GT(layer(layers, block).relative_error, 0.01);
    EXPECT_TRUE(layer(layers, block).suspicion.empty());
  }
  EXPECT_EQ(layer(layers, "text.blocks.2").relative_error, 0);
}

TEST(Layers, SixteenBitsAreNoSuspects) {
  const auto reference = backend::make_reference_backend();
  const auto cpu = backend::make_cpu_backend({2, false, "", {}, 0});
  try {
    cpu->resolve(Precision::bf16);
  } catch (const Error& e) {
    GTEST_SKIP() << e.what();
  }
  const auto want = load(*reference), got = load(*cpu, {}, Precision::bf16);
  auto layers = profile_layers({*cpu, got}, {*reference, want}, inputs());
  find_suspects(layers, Precision::bf16, Precision::fp32);
  EXPECT_TRUE(suspects(layers).empty());
  for (const LayerError& l : layers) EXPECT_LT(l.relative_error, 0.03) << l.layer;
}

model::Model load_int8(backend::Backend& backend, const std::string& layer, float input_scale) {
  const model::ModelFiles files = model::test::small_files(deep_config());
  ChangedSource source(files.config, [](const std::string&, const Shape&, std::span<float>) {});
  model::EightBit choices;
  if (!layer.empty()) choices.set(files.config, layer, {false, input_scale, {}});
  model::LoadOptions options;
  options.precision = Precision::int8, options.eight_bit = &choices;
  return model::load_model(files, source, backend, options);
}

// What calibration stores for a layer, and somebody spoiled: steps far too coarse, and a range far too small.
TEST(Layers, ASpoiledScaleOfAnInputIsNamed) {
  const auto reference = backend::make_reference_backend();
  const auto cpu = backend::make_cpu_backend({2, false, "", {}, 0});
  const auto want = load(*reference);
  const auto right = load_int8(*cpu, "", 0);
  auto layers = profile_layers({*cpu, right}, {*reference, want}, inputs());
  find_suspects(layers, Precision::int8, Precision::fp32);
  EXPECT_TRUE(suspects(layers).empty());
  for (const std::string name : {"vision.blocks.1.fc2", "text.blocks.0.out", "vision.blocks.2.qkv"}) {
    for (const float scale : {2.0F, 1e-4F}) {
      const auto got = load_int8(*cpu, name, scale);
      layers = profile_layers({*cpu, got}, {*reference, want}, inputs());
      find_suspects(layers, Precision::int8, Precision::fp32);
      EXPECT_EQ(suspects(layers), std::vector<std::string>{name}) << "steps of " << scale;
    }
  }
}

TEST(Layers, DifferentNetworksAreRefused) {
  const auto backend = backend::make_reference_backend();
  const auto want = load(*backend);
  model::ModelFiles files = model::test::small_files();
  const auto got = model::load_model(files, *backend, {});
  EXPECT_THROW(profile_layers({*backend, got}, {*backend, want}, inputs()), Error);
}

TEST(Difference, ByHand) {
  Difference d;
  d.add(std::vector<float>{2, 0, 4, 1}, std::vector<float>{1, 0, 4, 1}, 2);
  const LayerError e = d.result();
  EXPECT_NEAR(e.relative_error, std::sqrt(1.0 / 18), 1e-12);
  EXPECT_NEAR(e.gain, 19.0 / 18, 1e-12);
  EXPECT_EQ(e.worst_channel, 0);
  EXPECT_NEAR(e.worst_channel_error, std::sqrt(1.0 / 17), 1e-12);
  Difference nan;
  nan.add(std::vector<float>{NAN, 0}, std::vector<float>{1, 0}, 2);
  EXPECT_EQ(nan.result().relative_error, 1);
  EXPECT_EQ(nan.result().cosine, 0);
}

}  // namespace
}  // namespace tandem::verify
