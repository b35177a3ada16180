#include <cmath>
#include <limits>

#include "model/weights.h"
#include "unit/model/model_test_util.h"

namespace tandem::model {
namespace {

using test::expect_error;
using test::MapSource;

Config small_config() {
  Config c;
  c.layout = "huggingface";
  c.embed_dim = 3;
  c.vision.width = 4, c.vision.layers = 1, c.vision.heads = 2, c.vision.head_dim = 2, c.vision.mlp = 5;
  c.vision.image_size = 4, c.vision.patch = 2;
  c.text.width = 2, c.text.layers = 1, c.text.heads = 1, c.text.head_dim = 2, c.text.mlp = 3;
  c.text.vocab_size = 6, c.text.context_length = 5;
  return c;
}

/// A checkpoint of small_config() in OpenCLIP's names (text tower after `text`), everything after `prefix`.
void fill_openclip(MapSource& s, const std::string& prefix, const std::string& text) {
  const auto norm = [&](const std::string& name, int d) {
    s.fill(prefix + name + ".weight", {d});
    s.fill(prefix + name + ".bias", {d});
  };
  const auto block = [&](const std::string& at, int d, int mlp) {
    norm(at + "ln_1", d);
    s.fill(prefix + at + "attn.in_proj_weight", {3 * d, d});
    s.fill(prefix + at + "attn.in_proj_bias", {3 * d});
    s.fill(prefix + at + "attn.out_proj.weight", {d, d});
    s.fill(prefix + at + "attn.out_proj.bias", {d});
    norm(at + "ln_2", d);
    s.fill(prefix + at + "mlp.c_fc.weight", {mlp, d});
    s.fill(prefix + at + "mlp.c_fc.bias", {mlp});
    s.fill(prefix + at + "mlp.c_proj.weight", {d, mlp});
    s.fill(prefix + at + "mlp.c_proj.bias", {d});
  };
  s.fill(prefix + "visual.conv1.weight", {4, 3, 2, 2});
  s.fill(prefix + "visual.class_embedding", {4});
  s.fill(prefix + "visual.positional_embedding", {5, 4});
  norm("visual.ln_pre", 4);
  norm("visual.ln_post", 4);
  s.fill(prefix + "visual.proj", {4, 3});
  block("visual.transformer.resblocks.0.", 4, 5);
  s.fill(prefix + text + "token_embedding.weight", {6, 2});
  s.fill(prefix + text + "positional_embedding", {5, 2});
  norm(text + "ln_final", 2);
  s.fill(prefix + text + "text_projection", {2, 3});
  block(text + "transformer.resblocks.0.", 2, 3);
  s.fill(prefix + "logit_scale", {});
}

void read_all(const Config& config, MapSource& source) {
  WeightReader reader(config, source);
  for (const WeightSpec& spec : weight_table(config)) reader.read(spec);
}

TEST(WeightReader, PrefixesAndCustomText) {
  const Config config = small_config();
  for (const char* prefix : {"", "module.", "model."}) {
    for (const char* text : {"", "text."}) {
      SCOPED_TRACE(std::string(prefix) + text);
      MapSource source;
      fill_openclip(source, prefix, text);
      EXPECT_EQ(test::error_of([&] { read_all(config, source); }), "");
    }
  }
}

TEST(WeightReader, ProjectionsAreTransposed) {
  const Config config = small_config();
  MapSource source;
  fill_openclip(source, "", "");
  WeightReader reader(config, source);
  const auto loaded = reader.read({"vision.projection", {3, 4}});
  for (int p = 0; p < 3; ++p) {
    for (int d = 0; d < 4; ++d) EXPECT_EQ(loaded.view.as<float>()[p * 4 + d], static_cast<float>(d * 3 + p));
  }
}

TEST(WeightReader, TheBuffersOfOpenAiAreHarmless) {
  const Config config = small_config();
  MapSource source;
  fill_openclip(source, "", "");
  for (const char* name : {"input_resolution", "context_length", "vocab_size"}) source.fill(name, {});
  EXPECT_EQ(test::error_of([&] { read_all(config, source); }), "");
}

TEST(WeightReader, WrongCheckpointsNameTensorFoundAndExpected) {
  const Config config = small_config();
  const std::string name = "visual.transformer.resblocks.0.attn.in_proj_weight";
  const auto fails = [&](const std::function<void(MapSource&)>& damage, const std::vector<std::string>& parts,
                         std::string_view code = "bad_data") {
    MapSource source;
    fill_openclip(source, "", "");
    damage(source);
    expect_error([&] { read_all(config, source); }, code, parts);
  };
  fails([&](MapSource& s) { s.remove(name); }, {name, "missing", "[12, 4]", "vision.blocks.0.attn.qkv.weight"});
  fails([&](MapSource& s) { s.fill(name, {12, 5}); }, {name, "[12, 5]", "expected [12, 4]"});
  fails(
      [&](MapSource& s) {
        s.fill("visual.positional_embedding", {10, 4});
      },
      {"positional_embedding", "[10, 4]", "[5, 4]"});
  fails([&](MapSource& s) { s.at(name).view().as<float>()[7] = std::numeric_limits<float>::quiet_NaN(); },
        {name, "NaN", "element 7"});
  fails([&](MapSource& s) { s.at(name).view().as<float>()[47] = -std::numeric_limits<float>::infinity(); },
        {name, "infinite", "element 47 of 48"});
  fails([&](MapSource& s) { s.fill("visual.transformer.resblocks.1.ln_1.weight", {4}); },
        {"visual.transformer.resblocks.1.ln_1.weight", "1 vision"});
  fails([&](MapSource& s) { s.fill("visual.transformer.resblocks.0.ls_1.gamma", {4}); }, {"ls_1.gamma"});
  fails(
      [&](MapSource& s) {
        s.fill("ema.visual.class_embedding", {4});
        s.remove("visual.class_embedding");
        s.fill("b.visual.class_embedding", {4});
      },
      {"several models"});
  MapSource empty;
  expect_error([&] { read_all(config, empty); }, "bad_data",
               {"vision_model.embeddings.patch_embedding.weight", "missing"});
}

TEST(WeightReader, ReleasesEveryPart) {
  const ModelFiles files = open_folder(test::golden("tiny/hf_quickgelu"));
  const auto source = files.open_weights();
  MapSource copy;
  for (const std::string& name : source->names()) copy.fill(name, source->find(name)->shape);
  WeightReader reader(files.config, copy);
  reader.release({"text.blocks.1.attn.qkv.bias", {96}});
  EXPECT_EQ(copy.released, (std::vector<std::string>{"text_model.encoder.layers.1.self_attn.q_proj.bias",
                                                     "text_model.encoder.layers.1.self_attn.k_proj.bias",
                                                     "text_model.encoder.layers.1.self_attn.v_proj.bias"}));
}

TEST(WeightReader, HuggingFaceExtrasOutsideTheTowers) {
  const ModelFiles files = open_folder(test::golden("tiny/hf_quickgelu"));
  const auto source = files.open_weights();
  MapSource copy;
  for (const std::string& name : source->names()) copy.fill("clip." + name, source->find(name)->shape);
  copy.fill("classifier.weight", {2, 2});
  copy.fill("clip.text_model.embeddings.position_ids", {20});
  EXPECT_EQ(test::error_of([&] { read_all(files.config, copy); }), "");
  copy.fill("clip.vision_model.encoder.layers.2.layer_norm1.weight", {36});
  expect_error([&] { read_all(files.config, copy); }, "bad_data", {"layers.2.layer_norm1.weight"});
}

TEST(WeightTable, SplitsHeadsRowsAndColumns) {
  std::map<std::string, Shard> shards;
  for (const WeightSpec& spec : weight_table(small_config())) shards[spec.name] = spec.shard;
  EXPECT_EQ(shards.at("vision.blocks.0.attn.qkv.weight"), Shard::heads);
  EXPECT_EQ(shards.at("vision.blocks.0.attn.qkv.bias"), Shard::heads);
  EXPECT_EQ(shards.at("text.blocks.0.attn.out.weight"), Shard::columns);
  EXPECT_EQ(shards.at("text.blocks.0.attn.out.bias"), Shard::replicated);
  EXPECT_EQ(shards.at("text.blocks.0.mlp.fc1.weight"), Shard::rows);
  EXPECT_EQ(shards.at("text.blocks.0.mlp.fc1.bias"), Shard::rows);
  EXPECT_EQ(shards.at("vision.blocks.0.mlp.fc2.weight"), Shard::columns);
  EXPECT_EQ(shards.at("vision.projection"), Shard::replicated);
}

}  // namespace
}  // namespace tandem::model
