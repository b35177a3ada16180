// Which layers a pattern names, what choices are refused, and what the loader makes of them.
#include "model/eight_bit.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "backend/reference/reference_backend.h"
#include "tandem/error.h"
#include "unit/model/forwarding_backend.h"
#include "unit/model/small_model.h"

namespace tandem::model {
namespace {

template <class Call>
std::string refusal(Call call) {
  try {
    call();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::invalid_argument);
    return e.what();
  }
  return "accepted";
}

TEST(EightBitLayers, AreFourOfEveryBlock) {
  const auto layers = eight_bit_layers(test::small_config());
  EXPECT_EQ(layers.size(), 4u * (3 + 2));
  EXPECT_EQ(layers.front(), "vision.blocks.0.qkv");
  EXPECT_EQ(layers.back(), "text.blocks.1.fc2");
  EXPECT_EQ(std::set(layers.begin(), layers.end()).size(), layers.size());
}

TEST(EightBitLayers, PatternsMatchWholeNames) {
  const std::string name = "vision.blocks.11.fc2";
  for (const char* yes :
       {"vision.blocks.11.fc2", "*", "**", "vision*", "*fc2", "vision.*.fc2", "*.1*.*c*", "v*1*1*2"}) {
    EXPECT_TRUE(matches(yes, name)) << yes;
  }
  for (const char* no : {"", "vision", "fc2", "*fc1", "vision.blocks.1.fc2", "*.1.fc2", "v*1*1*1*",
                         "vision.blocks.11.fc2*x", "vision?blocks.11.fc2"}) {
    EXPECT_FALSE(matches(no, name)) << no;
  }
  EXPECT_TRUE(matches("", ""));
  EXPECT_TRUE(matches("*", ""));
}

TEST(EightBitChoices, PatternsKeepLayers) {
  const Config c = test::small_config();
  const EightBit kept(c, {"vision.blocks.*.fc2, text.blocks.0.qkv", "*.1.out"});
  std::set<std::string> names;
  for (const auto& [name, choice] : kept.all()) {
    EXPECT_TRUE(choice.keep) << name;
    names.insert(name);
  }
  EXPECT_EQ(names, (std::set<std::string>{"vision.blocks.0.fc2", "vision.blocks.1.fc2", "vision.blocks.2.fc2",
                                          "text.blocks.0.qkv", "vision.blocks.1.out", "text.blocks.1.out"}));
  EXPECT_FALSE(kept.of("vision.blocks.0.fc1").keep);
  EXPECT_NE(refusal([&] {
              EightBit(c, {"vision.*", "vision.blocks.3.fc2"});
            }).find("\"vision.blocks.3.fc2\""),
            std::string::npos);
  EXPECT_TRUE(EightBit(c, {}).all().empty());
}

TEST(EightBitChoices, WhatNoRangeGivesIsRefused) {
  const Config c = test::small_config();
  EightBit choices;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> ones(static_cast<std::size_t>(c.vision.width), 1.0F);
  const auto with = [&](const char* layer, LayerChoice choice) {
    return refusal([&] { choices.set(c, layer, std::move(choice)); });
  };
  EXPECT_NE(with("vision.blocks.0.fc3", {}).find("fc3"), std::string::npos);
  EXPECT_NE(with("vision.blocks.0.fc2", {false, -1, {}}).find("-1"), std::string::npos);
  EXPECT_NE(with("vision.blocks.0.fc2", {false, nan, {}}).find("nan"), std::string::npos);
  EXPECT_NE(with("vision.blocks.0.fc2", {false, 0, ones}).find("no norm"), std::string::npos);
  EXPECT_NE(with("text.blocks.0.fc1", {false, 0, ones}).find("48 inputs"), std::string::npos);
  auto zero = ones;
  zero[3] = 0;
  EXPECT_NE(with("vision.blocks.0.qkv", {false, 0, zero}).find("positive"), std::string::npos);
  EXPECT_NE(with("text.blocks.0.out", {false, 0, {}, ones}).find("averages"), std::string::npos);
  EXPECT_NE(with("text.blocks.0.fc1", {false, 0, {}, ones}).find("48 inputs"), std::string::npos);
  auto endless = ones;
  endless[5] = std::numeric_limits<float>::infinity();
  EXPECT_NE(with("vision.blocks.0.fc1", {false, 0, {}, endless}).find("finite"), std::string::npos);
  EXPECT_TRUE(choices.all().empty());
  choices.set(c, "vision.blocks.0.qkv", {false, 0.5F, ones});
  EXPECT_EQ(choices.of("vision.blocks.0.qkv").input_scale, 0.5F);
  const std::string key = choices.key();
  choices.set(c, "vision.blocks.0.qkv", {false, std::nextafter(0.5F, 1.0F), ones});
  EXPECT_NE(choices.key(), key);
  choices.set(c, "vision.blocks.0.qkv", {false, 0.5F, {}, ones});
  EXPECT_NE(choices.key(), key);
  choices.set(c, "vision.blocks.0.qkv", {});
  EXPECT_TRUE(choices.all().empty());
}

/// Computes in float32 whatever is asked, and says what was prepared how.
class Recording final : public backend::test::ForwardingBackend {
 public:
  Recording() : ForwardingBackend(backend::make_reference_backend()) {}
  Precision resolve(Precision p) const override { return p; }
  Precision kept(Precision) const override { return Precision::fp32; }
  std::unique_ptr<backend::PreparedWeight> prepare_linear(ConstView w, Precision p,
                                                          const backend::WeightUse& use) override {
    ++(p == Precision::int8 || p == Precision::fp8 ? quantised : whole);
    if (use.input_scale > 0) scales.insert(use.input_scale);
    return ForwardingBackend::prepare_linear(w, Precision::fp32, use);
  }
  int quantised = 0, whole = 0;
  std::set<float> scales;
};

TEST(EightBitChoices, TheLoaderFollowsThem) {
  const ModelFiles files = test::small_files();
  Recording backend;
  LoadOptions options;
  options.precision = Precision::int8;
  const auto vectors = [&](const LoadOptions& o) {
    const Model m = load_model(files, backend, o);
    parallel::Alone alone;
    Arena arena(backend.allocate(1 << 20));
    Execution ex{backend, arena, alone, m.precision};
    return test::all_vectors(ex, m);
  };
  const auto plain = vectors(options);
  EXPECT_EQ(backend.quantised, 4 * 5 + 2);  // the last blocks' queries apart from keys and values
  EXPECT_EQ(backend.whole, 0);
  // fp8 keeps what the pooled rows alone read: of the last blocks all but keys and values.
  backend.quantised = 0;
  options.precision = Precision::fp8;
  EXPECT_EQ(vectors(options), plain);
  EXPECT_EQ(backend.quantised, 4 * 3 + 2);
  EXPECT_EQ(backend.whole, 4 * 2);
  options.precision = Precision::int8;

  EightBit choices(files.config, {"vision.blocks.2.qkv", "text.blocks.0.*"});
  std::vector<float> factors;
  for (int i = 0; i < files.config.text.width; ++i) factors.push_back(0.25F + 0.1F * static_cast<float>(i % 17));
  choices.set(files.config, "text.blocks.1.fc2", {false, 0.25F, {}});
  auto centre = factors;
  for (float& v : centre) v = 1 - v;
  choices.set(files.config, "text.blocks.1.qkv", {false, 0.5F, factors, centre});
  choices.set(files.config, "text.blocks.1.fc1", {false, 0, factors});
  choices.set(files.config, "vision.blocks.1.fc1",
              {false, 0, {}, std::vector<float>(static_cast<std::size_t>(files.config.vision.width), 0.75F)});
  options.eight_bit = &choices;
  backend.quantised = backend.whole = 0;
  const auto moved = vectors(options);
  EXPECT_EQ(backend.whole, 2 + 4);
  EXPECT_EQ(backend.quantised, 4 * 5 + 2 - 6);
  EXPECT_EQ(backend.scales, (std::set<float>{0.25F, 0.5F}));
  // Factors and averages change nothing but rounding.
  ASSERT_EQ(moved.size(), plain.size());
  for (std::size_t i = 0; i < plain.size(); ++i) EXPECT_NEAR(moved[i], plain[i], 2e-4F * (1 + std::abs(plain[i])));
  EXPECT_NE(moved, plain);
}

}  // namespace
}  // namespace tandem::model
