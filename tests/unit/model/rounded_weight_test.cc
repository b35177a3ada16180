// Weights that come as eight-bit numbers: what the bytes mean, what a file of them must hold, who multiplies with them.
#include "model/rounded_weight.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>

#include "backend/reference/reference_backend.h"
#include "model/calibration.h"
#include "tandem/error.h"
#include "tensor/e4m3.h"
#include "unit/model/forwarding_backend.h"
#include "unit/model/small_model.h"

namespace tandem::model {
namespace {

TEST(E4m3, BytesAreTheirNumbers) {
  float before = -1;
  for (unsigned code = 0; code < 0x7f; ++code) {
    const float value = e4m3_value(static_cast<std::uint8_t>(code));
    EXPECT_GT(value, before);  // in the order of their bytes
    EXPECT_EQ(round_to_e4m3(value), value) << code;
    EXPECT_EQ(e4m3_code(value), code);
    EXPECT_EQ(e4m3_value(static_cast<std::uint8_t>(code | 0x80U)), -value);
    EXPECT_EQ(e4m3_code(-value), code | 0x80U);
    before = value;
  }
  EXPECT_EQ(before, 448);
  EXPECT_EQ(e4m3_value(1), 0x1p-9F);
  EXPECT_EQ(e4m3_value(0x38), 1);
  EXPECT_TRUE(std::isnan(e4m3_value(0x7f)) && std::isnan(e4m3_value(0xff)));
  EXPECT_EQ(e4m3_code(NAN) & 0x7fU, 0x7fU);
  for (float x = 1e-4F; x < 1000; x *= 1.01F) EXPECT_EQ(e4m3_value(e4m3_code(x)), round_to_e4m3(x)) << x;
}

TEST(RoundedWeight, HoldsWhatWasRounded) {
  for (const Precision p : {Precision::int8, Precision::fp8}) {
    const std::vector<float> steps{0.5F, 0.01F, 0};
    const std::vector<float> values{60, -20, 0.5F, 0, 0.06F, -1.12F, 0, 0, 0};
    const auto made = make_rounded(p, values, steps);
    EXPECT_EQ(made->codes.shape, (Shape{3, 3}));
    const Tensor read = values_of(*made);
    for (std::size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(read.view().as<float>()[i], values[i], 1e-6F) << i;
    EXPECT_EQ(make_rounded(p, values, steps)->digest, made->digest);
    EXPECT_NE(make_rounded(p, values, {0.5F, 0.02F, 0})->digest, made->digest);
  }
  const Tensor cut = values_of(*make_rounded(Precision::int8, std::vector<float>{500, -500}, {1}));
  EXPECT_EQ(cut.view().as<float>()[0], 127);
  EXPECT_EQ(cut.view().as<float>()[1], -127);
}

const std::vector<std::string> kLayers{"text.blocks.1.out", "vision.blocks.0.fc2"};

struct Entry {
  std::string name, type;
  std::vector<std::size_t> shape;
  std::string bytes;
};

/// What a calibration of test::small_config() may hold.
std::vector<Entry> entries(Precision precision) {
  std::vector<Entry> out;
  for (const std::string& layer : kLayers) {
    const Shape s = layer_shape(test::small_config(), layer);
    const auto rows = static_cast<std::size_t>(s[0]), columns = static_cast<std::size_t>(s[1]);
    std::string codes(rows * columns, '\0');
    for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<char>(i * 37 % 120);
    std::vector<float> steps(rows, 0.01F);
    out.push_back({layer + ".codes", precision == Precision::fp8 ? "F8_E4M3" : "I8", {rows, columns}, codes});
    out.push_back({layer + ".steps", "F32", {rows}, {reinterpret_cast<const char*>(steps.data()), rows * 4}});
  }
  return out;
}

std::string file_of(const std::vector<Entry>& entries) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  std::string data;
  for (const Entry& e : entries) {
    header[e.name] = {
        {"dtype", e.type}, {"shape", e.shape}, {"data_offsets", {data.size(), data.size() + e.bytes.size()}}};
    data += e.bytes;
  }
  const std::string text = header.dump();
  const std::uint64_t size = text.size();
  return std::string(reinterpret_cast<const char*>(&size), 8) + text + data;
}

RoundedWeights read(const std::string& file, Precision precision = Precision::int8) {
  return read_rounded(std::as_bytes(std::span(file)), nullptr, "w.safetensors", test::small_config(), precision,
                      kLayers);
}

std::string message(const std::vector<Entry>& entries, Precision precision = Precision::int8) {
  const std::string file = file_of(entries);
  try {
    read(file, precision);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::bad_data);
    EXPECT_TRUE(std::string(e.what()).starts_with("w.safetensors: ")) << e.what();
    return e.what();
  }
  return "accepted";
}

TEST(RoundedWeightFile, IsReadWhereItStands) {
  for (const Precision p : {Precision::int8, Precision::fp8}) {
    const std::string file = file_of(entries(p));
    const RoundedWeights found = read(file, p);
    ASSERT_EQ(found.size(), 2U);
    const RoundedWeight& weight = *found.at("vision.blocks.0.fc2");
    EXPECT_EQ(weight.codes.shape, (Shape{32, 72}));
    EXPECT_GE(reinterpret_cast<const char*>(weight.codes.data), file.data());
    EXPECT_EQ(weight.steps, std::vector<float>(32, 0.01F));
    const float want = p == Precision::fp8 ? e4m3_value(37) : 37.0F;
    EXPECT_FLOAT_EQ(values_of(weight).view().as<float>()[1], want * 0.01F);
  }
}

TEST(RoundedWeightFile, EveryMistakeNamesItsTensor) {
  auto e = entries(Precision::int8);
  e.pop_back();
  EXPECT_NE(message(e).find("there is no vision.blocks.0.fc2.steps"), std::string::npos);
  e = entries(Precision::int8);
  e.push_back({"text.blocks.0.out.codes", "I8", {1}, "a"});
  EXPECT_NE(message(e).find("text.blocks.0.out.codes"), std::string::npos);
  EXPECT_NE(message(entries(Precision::fp8)).find("expected I8 [48, 48]"), std::string::npos);
  EXPECT_NE(message(entries(Precision::int8), Precision::fp8).find("expected F8_E4M3 [48, 48]"), std::string::npos);
  e = entries(Precision::int8);
  e[2].shape = {72, 32};
  EXPECT_NE(message(e).find("expected I8 [32, 72]"), std::string::npos);
  e = entries(Precision::int8);
  e[0].bytes[100] = '\x80';  // -128: beyond what backends multiply
  EXPECT_NE(message(e).find("text.blocks.1.out.codes"), std::string::npos);
  for (const char nan : {'\x7f', '\xff'}) {
    e = entries(Precision::fp8);
    e[2].bytes[5] = nan;
    EXPECT_NE(message(e, Precision::fp8).find("vision.blocks.0.fc2.codes"), std::string::npos);
  }
  for (const float bad : {-1.0F, NAN, INFINITY, 1e-40F}) {
    e = entries(Precision::int8);
    std::memcpy(e[1].bytes.data() + 8, &bad, 4);
    EXPECT_NE(message(e).find("text.blocks.1.out.steps"), std::string::npos) << bad;
  }
  std::string cut = file_of(entries(Precision::int8));
  cut.resize(cut.size() - 1);
  EXPECT_THROW(read(cut), Error);
}

TEST(RoundedWeightFile, IsTheOneThatTheCalibrationNames) {
  std::string file = file_of(entries(Precision::int8));
  Calibration c;
  c.precision = Precision::int8;
  for (const std::string& layer : kLayers) c.layers[layer].rounded = true;
  c.weights_file = "w", c.weights_hash = rounded_hash(std::as_bytes(std::span(file)));
  const Config config = test::small_config();
  EXPECT_THROW(c.choices(config, true), Error);  // not taken yet
  c.take_weights(std::as_bytes(std::span(file)), nullptr, "w", config);
  const EightBit choices = c.choices(config, true);
  ASSERT_TRUE(choices.of(kLayers[0]).rounded);
  const std::string key = choices.key();
  file[file.size() - 1] ^= 1;
  try {
    c.take_weights(std::as_bytes(std::span(file)), nullptr, "w", config);
    FAIL() << "accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::bad_data);
    EXPECT_NE(std::string(e.what()).find("damaged"), std::string::npos);
  }
  c.weights_hash = rounded_hash(std::as_bytes(std::span(file)));
  c.take_weights(std::as_bytes(std::span(file)), nullptr, "w", config);
  EXPECT_NE(c.choices(config, true).key(), key);
  // Of another shape than the layer's.
  LayerChoice wrong;
  wrong.rounded = make_rounded(Precision::int8, std::vector<float>(32, 1.0F), std::vector<float>(4, 1.0F));
  EightBit none;
  EXPECT_THROW(none.set(config, kLayers[0], wrong), Error);
}

/// Notes weights that come with steps.
class Recording final : public backend::test::ForwardingBackend {
 public:
  Recording() : ForwardingBackend(backend::make_reference_backend()) {}
  std::unique_ptr<backend::PreparedWeight> prepare_linear(ConstView w, Precision p,
                                                          const backend::WeightUse& use) override {
    if (use.steps) {
      auto& values = seen.emplace_back();
      for (std::int64_t n = 0; n < w.rows(); ++n) {
        const float* row = w.row_range(n, 1).as<float>();
        values.insert(values.end(), row, row + w.columns());
        values.push_back(use.steps.as<float>()[n]);
      }
    }
    return ForwardingBackend::prepare_linear(w, p, use);
  }
  std::vector<std::vector<float>> seen;  ///< rows, each with its step behind it
};

TEST(RoundedWeight, IsWhatTheLoaderPrepares) {
  const ModelFiles files = test::small_files();
  // How each layer divides over two ranks: rows of q, k and v; columns; rows.
  for (const std::string layer : {"vision.blocks.1.qkv", "vision.blocks.1.out", "vision.blocks.1.fc1"}) {
    const Shape shape = layer_shape(files.config, layer);
    std::vector<float> values(static_cast<std::size_t>(shape.elements())), steps(static_cast<std::size_t>(shape[0]));
    for (std::size_t n = 0; n < steps.size(); ++n) steps[n] = 0.001F * static_cast<float>(n + 1);
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<float>(i % 101) * steps[i / static_cast<std::size_t>(shape[1])];
    }
    LayerChoice choice;
    choice.rounded = make_rounded(Precision::int8, values, steps);
    EightBit choices;
    choices.set(files.config, layer, choice);
    LoadOptions options;
    options.precision = Precision::int8, options.eight_bit = &choices;
    const std::int64_t columns = shape[1], groups = layer.ends_with("qkv") ? 3 : 1;
    const bool by_columns = layer.ends_with("out");
    for (const int ranks : {1, 2}) {
      options.tensor_ranks = ranks, options.tensor_rank = ranks - 1;
      Recording backend;
      load_model(files, backend, options);
      ASSERT_EQ(backend.seen.size(), 1U) << layer;
      std::vector<float> want;
      for (std::int64_t n = 0; n < shape[0]; ++n) {
        const std::int64_t each = shape[0] / groups, at = n % each;
        if (!by_columns && ranks == 2 && at < each / 2) continue;
        for (std::int64_t i = by_columns && ranks == 2 ? columns / 2 : 0; i < columns; ++i) {
          want.push_back(values[static_cast<std::size_t>(n * columns + i)]);
        }
        want.push_back(steps[static_cast<std::size_t>(n)]);
      }
      EXPECT_EQ(backend.seen[0], want) << layer << " of " << ranks;
    }
    // Kept back, or in another precision, the layer has the model's own weight.
    choice.keep = true;
    choices.set(files.config, layer, choice);
    Recording kept;
    load_model(files, kept, options);
    EXPECT_TRUE(kept.seen.empty());
  }
}

}  // namespace
}  // namespace tandem::model
