// tandem-calibration.json: written and read back, and every mistake in it named.
#include "model/calibration.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tandem/error.h"
#include "unit/model/small_model.h"

namespace tandem::model {
namespace {

const std::string kHash = "00112233aabbccdd";

Calibration example(Precision precision = Precision::int8) {
  Calibration c;
  c.model_hash = kHash, c.architecture = "small", c.precision = precision;
  c.data = "12 pictures of \"tests\"", c.against = "cpu";
  c.images = {12, 0.999, 0.99}, c.plain_images = {12, 0.9, 0.5}, c.eight_bit_share = 0.93;
  c.layers["vision.blocks.0.fc2"] = {{true, 0, {}}, "row", 0.25};
  c.layers["vision.blocks.1.fc2"] = {{false, 0.1F, {}}, "mse", 0.01};
  std::vector<float> factors(32, 1.0F / 3);
  c.layers["vision.blocks.2.qkv"] = {{false, 0, factors}, "row", 0.02};
  c.layers["vision.blocks.2.qkv"].choice.centre.assign(32, -0.7F);
  c.layers["text.blocks.1.out"] = {{}, "row", 0.5};
  return c;
}

std::string message(const std::string& text, Precision precision = Precision::int8, const std::string& hash = kHash) {
  try {
    parse_calibration(text, "file.json", test::small_config(), hash, precision);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::bad_data) << e.what();
    return e.what();
  }
  return "accepted";
}

TEST(CalibrationFile, IsReadAsItWasWritten) {
  const Calibration c = example();
  const std::string text = calibration_text(c);
  EXPECT_EQ(calibration_text(c), text);
  const auto read = parse_calibration(text, "f", test::small_config(), kHash, Precision::int8);
  ASSERT_TRUE(read);
  EXPECT_EQ(calibration_text(*read), text);
  EXPECT_EQ(read->layers.at("vision.blocks.2.qkv").choice, c.layers.at("vision.blocks.2.qkv").choice);
  EXPECT_EQ(read->data, c.data);
  EXPECT_EQ(read->plain_images.min_cosine, 0.5);
  const EightBit choices = read->choices(test::small_config(), true);
  EXPECT_TRUE(choices.of("vision.blocks.0.fc2").keep);
  EXPECT_EQ(choices.of("vision.blocks.1.fc2").input_scale, 0.1F);
  EXPECT_FALSE(read->choices(test::small_config(), false).of("vision.blocks.0.fc2").keep);
  EXPECT_EQ(choices.all().size(), 3U);  // the fourth has the default
}

TEST(CalibrationFile, NamesTheFileOfItsRoundedWeights) {
  EXPECT_EQ(weights_file_of(kCalibrationFile, Precision::int8), "tandem-calibration.int8.safetensors");
  EXPECT_EQ(weights_file_of("named", Precision::fp8), "named.fp8.safetensors");
  Calibration c = example();
  c.layers["vision.blocks.1.fc2"].rounded = true;
  c.weights_file = "w.safetensors", c.weights_hash = "0011";
  const std::string text = calibration_text(c);
  const auto read = parse_calibration(text, "f", test::small_config(), kHash, Precision::int8);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->weights_file, "w.safetensors");
  EXPECT_EQ(read->weights_hash, "0011");
  EXPECT_EQ(read->rounded_layers(), std::vector<std::string>{"vision.blocks.1.fc2"});
  EXPECT_EQ(calibration_text(*read), text);
  for (const char* bad : {"../w", "a/b", "/w", ".", "..", ""}) {
    auto json = nlohmann::json::parse(text);
    json["precisions"]["int8"]["weights"]["file"] = bad;
    EXPECT_NE(message(json.dump()).find("weights.file"), std::string::npos) << bad;
  }
  auto json = nlohmann::json::parse(text);
  json["precisions"]["int8"]["layers"]["vision.blocks.1.fc2"].erase("rounded");
  EXPECT_NE(message(json.dump()).find("weights.file"), std::string::npos);
}

TEST(CalibrationFile, PrecisionsStandBesideEachOtherInWhateverOrderTheyCame) {
  const std::string int8 = calibration_text(example()), fp8 = calibration_text(example(Precision::fp8));
  const std::string both = calibration_text(example(Precision::fp8), int8);
  EXPECT_EQ(calibration_text(example(), fp8), both);
  EXPECT_EQ(calibration_text(example(), both), both);
  EXPECT_TRUE(parse_calibration(both, "f", test::small_config(), kHash, Precision::int8));
  EXPECT_TRUE(parse_calibration(both, "f", test::small_config(), kHash, Precision::fp8));
  EXPECT_FALSE(parse_calibration(int8, "f", test::small_config(), kHash, Precision::fp8));
  // Nothing is taken over from another model's file, or from one that is damaged.
  Calibration other = example(Precision::fp8);
  other.model_hash = "ffff";
  EXPECT_EQ(calibration_text(other, int8), calibration_text(other));
  for (const char* bad : {"{", "[]", "{\"format\":3}", "null", "\xff"})
    EXPECT_EQ(calibration_text(example(), bad), int8);
}

TEST(CalibrationFile, OfAnotherModelVersionOrKindIsRefused) {
  const std::string text = calibration_text(example());
  const std::string other = message(text, Precision::int8, "feedfeedfeedfeed");
  EXPECT_NE(other.find("model_hash"), std::string::npos);
  EXPECT_NE(other.find(kHash), std::string::npos);
  EXPECT_NE(other.find("another model"), std::string::npos);
  auto json = nlohmann::json::parse(text);
  json["version"] = 2;
  EXPECT_NE(message(json.dump()).find("version is 2"), std::string::npos);
  EXPECT_NE(message("{}").find("format"), std::string::npos);
  for (const char* bad : {"", "{", "[]", "3", "{\"format\": \"tandem-calibration\"}"}) {
    EXPECT_NE(message(bad), "accepted") << bad;
  }
}

TEST(CalibrationFile, EveryMistakeNamesItsField) {
  using Json = nlohmann::json;
  const std::string at = "/precisions/int8/layers/";
  const auto layer = [&](const char* rest) { return at + rest; };
  const std::vector<std::pair<std::string, Json>> cases{
      {layer("vision.blocks.0.fc2/keep"), 1},
      {layer("vision.blocks.0.fc2/input_scale"), "0.1"},
      {layer("vision.blocks.0.fc2/input_scale"), 0},
      {layer("vision.blocks.0.fc2/input_scale"), -0.5},
      {layer("vision.blocks.0.fc2/input_scale"), 1e300},
      {layer("vision.blocks.0.fc2/input_scale"), 1e-300},
      {layer("vision.blocks.0.fc2/range"), "guess"},
      {layer("vision.blocks.0.fc2/error"), -1},
      {layer("vision.blocks.0.fc2/scale"), 1},
      {layer("vision.blocks.2.qkv/migration"), Json::array()},
      {layer("vision.blocks.2.qkv/migration"), 2},
      {layer("vision.blocks.2.qkv/migration"), Json::array({1, 2})},
      {layer("vision.blocks.2.qkv/migration/3"), "x"},
      {layer("vision.blocks.2.qkv/migration/3"), 0},
      {layer("vision.blocks.2.qkv/centre/3"), 1e300},
      {layer("vision.blocks.2.qkv/centre/3"), nullptr},
      {layer("vision.blocks.2.qkv/centre"), Json::array({1, 2})},
      {layer("vision.blocks.0.fc2"), 5},
      {layer("vision.blocks.3.fc2"), Json::object()},
      {layer("vision.blocks.0.fc3"), Json::object()},
      {"/precisions/int8/layers", 3},
      {"/precisions/int8/eight_bit_share", 1.5},
      {"/precisions/int8/images/items", -1},
      {"/precisions/int8/images/mean_cosine", 7},
      {"/precisions/int8/wrong", 7},
      {"/precisions/int4", Json::object()},
      {"/more", 1},
  };
  for (const auto& [pointer, value] : cases) {
    Json json = Json::parse(calibration_text(example()));
    json[Json::json_pointer(pointer)] = value;
    const std::string said = message(json.dump());
    // The last name in the pointer that is no index.
    std::string field = pointer.substr(pointer.rfind('/') + 1);
    if (field == "3") field = pointer.find("centre") != std::string::npos ? "centre[3]" : "migration[3]";
    EXPECT_NE(said.find(field), std::string::npos) << pointer << ": " << said;
    EXPECT_TRUE(said.starts_with("file.json: ")) << said;
  }
}

}  // namespace
}  // namespace tandem::model
