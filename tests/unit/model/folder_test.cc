#include "model/weights.h"
#include "unit/model/model_test_util.h"

namespace tandem::model {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using test::golden;
using test::safetensors;

double value(ConstView view, std::int64_t i) {
  if (view.dtype == DType::f32) return view.as<float>()[i];
  const std::uint16_t bits = view.as<std::uint16_t>()[i];
  return view.dtype == DType::f16 ? half_to_float(bits) : bfloat16_to_float(bits);
}

struct TinyCase {
  const char* name;
  const char* layout;
  DType dtype;
  text::PoolRule rule;
};
std::ostream& operator<<(std::ostream& out, const TinyCase& c) {
  return out << c.name;
}

class TinyModel : public testing::TestWithParam<TinyCase> {};

TEST_P(TinyModel, EveryWeightIsWhatTheReferenceHas) {
  const TinyCase& c = GetParam();
  const ModelFiles files = open_folder(golden("tiny") / c.name);
  EXPECT_EQ(files.config.layout, c.layout);
  EXPECT_EQ(files.config.text.pool_rule, c.rule);
  EXPECT_EQ(files.tokenizer, files.folder) << files.tokenizer_help;
  const bool openclip = files.config.layout == "openclip";
  EXPECT_EQ(files.reference, openclip ? Reference::openai : Reference::hf_fast);
  EXPECT_EQ(files.cleaning, openclip ? Cleaning::openai : Cleaning::hf);

  const test::Json want = test::load_json(golden("tiny") / c.name / "goldens.json")["weights"];
  const auto source = files.open_weights();
  WeightReader reader(files.config, *source);
  const std::vector<WeightSpec> table = weight_table(files.config);
  EXPECT_EQ(table.size(), want.size());
  bool saw_dtype = false;
  for (const WeightSpec& spec : table) {
    SCOPED_TRACE(spec.name);
    ASSERT_TRUE(want.contains(spec.name));
    EXPECT_TRUE(reader.has(spec));
    const WeightReader::Loaded loaded = reader.read(spec);
    EXPECT_EQ(loaded.view.shape, spec.shape);
    EXPECT_TRUE(loaded.view.contiguous());
    saw_dtype = saw_dtype || loaded.view.dtype == c.dtype;
    const std::int64_t n = loaded.view.shape.elements();
    ASSERT_EQ(n, want[spec.name][0]);
    double sum = 0, weighted = 0, size = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      const double v = value(loaded.view, i);
      sum += v;
      weighted += v * static_cast<double>(1 + i % 7);
      size += std::abs(v);
    }
    EXPECT_NEAR(sum, want[spec.name][1].get<double>(), 1e-9 * (1 + size));
    EXPECT_NEAR(weighted, want[spec.name][2].get<double>(), 1e-9 * (1 + size));
    reader.release(spec);
  }
  EXPECT_TRUE(saw_dtype);
}

INSTANTIATE_TEST_SUITE_P(
    Every, TinyModel,
    testing::Values(TinyCase{"hf_quickgelu", "huggingface", DType::f32, text::PoolRule::first_end},
                    TinyCase{"hf_gelu_head80", "huggingface", DType::f16, text::PoolRule::first_end},
                    TinyCase{"hf_bf16_sharded", "huggingface", DType::bf16, text::PoolRule::first_end},
                    TinyCase{"hf_legacy_bin", "huggingface", DType::f16, text::PoolRule::largest_id},
                    TinyCase{"openclip_gelu", "openclip", DType::f32, text::PoolRule::largest_id},
                    TinyCase{"openclip_quickgelu_bin", "openclip", DType::f16, text::PoolRule::largest_id}),
    [](const auto& one) { return std::string(one.param.name); });

TEST(Folder, PreprocessingOfTheTinyModels) {
  EXPECT_EQ(open_folder(golden("tiny/hf_quickgelu")).config.preprocess.fit.crop_height, 28);
  EXPECT_EQ(open_folder(golden("tiny/hf_bf16_sharded")).config.preprocess.fit.resize_height, 56);
  EXPECT_EQ(open_folder(golden("tiny/hf_legacy_bin")).config.preprocess.fit.resize_height,
            28);  // no file: the tower's size
  const auto fit = open_folder(golden("tiny/openclip_quickgelu_bin")).config.preprocess.fit;
  EXPECT_EQ(fit.mode, image::FitOptions::ResizeMode::exact);
  EXPECT_EQ(fit.resample, image::Resample::bilinear);
}

constexpr const char* kClip = R"({"model_type": "clip"})";

TEST(Folder, NothingToRead) {
  const test::TempFolder folder;
  expect_error([] { open_folder("/nowhere/at/all"); }, "not_found", {"/nowhere/at/all"});
  expect_error([&] { open_folder(folder.path()); }, "not_found", {"config.json", "open_clip_config.json"});
  folder.write("config.json", "{");
  expect_error([&] { open_folder(folder.path()); }, "bad_data", {"config.json", "not valid JSON"});
  folder.write("config.json", kClip);
  const ModelFiles files = open_folder(folder.path());
  EXPECT_NE(files.tokenizer_help.find("vocab.json"), std::string::npos);
  EXPECT_TRUE(files.tokenizer.empty());
  folder.write("tf_model.h5", "x");
  expect_error([&] { files.open_weights(); }, "not_found", {"model.safetensors", "tf_model.h5"});
  folder.write("preprocessor_config.json", R"({"resample": 5})");
  expect_error([&] { open_folder(folder.path()); }, "unsupported", {"preprocessor_config.json", "resample"});
}

TEST(Folder, IndexesNameFilesBesideThem) {
  const test::TempFolder folder;
  folder.write("config.json", kClip);
  const auto open = [&](const std::string& map) {
    folder.write("model.safetensors.index.json", "{\"weight_map\": " + map + "}");
    return open_folder(folder.path()).open_weights();
  };
  folder.write("1.safetensors", safetensors(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "1"));
  EXPECT_EQ(open(R"({"a": "1.safetensors"})")->names(), std::vector<std::string>{"a"});
  expect_error([&] { open(R"({"a": "2.safetensors"})"); }, "not_found", {"2.safetensors"});
  expect_error([&] { open(R"({"b": "1.safetensors"})"); }, "bad_data", {"tensor b", "1.safetensors"});
  expect_error([&] { open(R"({"a": "../1.safetensors"})"); }, "bad_data", {"../1.safetensors"});
  expect_error([&] { open(R"({"a": 1})"); }, "bad_data", {"tensor a"});
  expect_error([&] { open("[]"); }, "bad_data", {"weight_map"});
}

TEST(Folder, BothLayoutsInOneFolder) {
  const test::TempFolder folder;
  fs::copy(golden("tiny/openclip_gelu"), folder.path(), fs::copy_options::recursive);
  folder.write("config.json", kClip);
  EXPECT_EQ(open_folder(folder.path()).config.layout, "openclip") << "no Hugging Face weights are there";
  folder.write("pytorch_model.bin", "x");
  EXPECT_EQ(open_folder(folder.path()).config.layout, "huggingface");
  folder.write("config.json", R"({"model_type": "other"})");
  EXPECT_EQ(open_folder(folder.path()).config.layout, "openclip");
}

TEST(Folder, OpenClipFallsBackToAnyCheckpoint) {
  const test::TempFolder folder;
  fs::copy(golden("tiny/openclip_gelu"), folder.path(), fs::copy_options::recursive);
  fs::remove(folder.path() / "goldens.safetensors");
  fs::rename(folder.path() / "open_clip_model.safetensors", folder.path() / "epoch_3.safetensors");
  folder.write("aaa.bin", "x");
  EXPECT_FALSE(open_folder(folder.path()).open_weights()->names().empty());
}

}  // namespace
}  // namespace tandem::model
