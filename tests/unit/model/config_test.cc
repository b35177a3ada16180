#include <cmath>

#include "model/readers.h"
#include "unit/model/model_test_util.h"

namespace tandem::model {
namespace {

using backend::ActivationFn;
using test::expect_error;

ActivationFn activation(const std::string& name) {
  if (name == "quick_gelu") return ActivationFn::quick_gelu;
  return name == "gelu" ? ActivationFn::gelu_erf : ActivationFn::gelu_tanh;
}

void expect_tower(const TowerConfig& got, const Json& want) {
  EXPECT_EQ(got.width, want["width"]);
  EXPECT_EQ(got.layers, want["layers"]);
  EXPECT_EQ(got.heads, want["heads"]);
  EXPECT_EQ(got.head_dim * got.heads, got.width);
  EXPECT_EQ(got.mlp, want["mlp"]);
  EXPECT_EQ(got.activation, activation(want["act"]));
  EXPECT_FLOAT_EQ(got.norm_eps, want["eps"].get<float>());
}

void expect_shapes(const Config& got, const Json& want) {
  EXPECT_EQ(got.embed_dim, want["embed_dim"]);
  expect_tower(got.vision, want["vision"]);
  EXPECT_EQ(got.vision.image_size, want["vision"]["image"]);
  EXPECT_EQ(got.vision.patch, want["vision"]["patch"]);
  expect_tower(got.text, want["text"]);
  EXPECT_EQ(got.text.vocab_size, want["text"]["vocab"]);
  EXPECT_EQ(got.text.context_length, want["text"]["context"]);
}

Json cases(const char* section) {
  return test::load_json(test::golden("config_cases.json"))[section];
}

TEST(HuggingFaceConfig, SameAsTransformers) {
  const Json all = cases("huggingface");
  ASSERT_GE(all.size(), 10u);
  for (const auto& [name, one] : all.items()) {
    SCOPED_TRACE(name);
    const Config got = read_huggingface_config(one["config"], "config.json");
    const Json& want = one["expect"];
    expect_shapes(got, want);
    EXPECT_FLOAT_EQ(got.logit_scale, want["logit_scale"].get<float>());
    EXPECT_EQ(got.text.end_id, want["text"]["eos"]);
    const bool largest = want["text"]["eos"] == 2;
    EXPECT_EQ(got.text.pool_rule, largest ? text::PoolRule::largest_id : text::PoolRule::first_end);
  }
}

TEST(HuggingFaceConfig, RefusedByName) {
  const auto fails = [](Json json, std::string_view code, const std::vector<std::string>& parts) {
    expect_error([&] { read_huggingface_config(json, "config.json"); }, code, parts);
  };
  const auto clip = [](const char* key, Json value) { return Json{{"model_type", "clip"}, {key, std::move(value)}}; };
  fails(Json::object(), "unsupported", {"no model_type"});
  fails({{"model_type", "siglip"}}, "unsupported", {"siglip"});
  fails({{"model_type", "clip_vision_model"}}, "unsupported", {"one tower alone"});
  fails({{"model_type", 3}}, "bad_data", {"model_type", "3"});
  fails(clip("vision_config", {{"hidden_act", "swish"}}), "unsupported", {"vision_config.hidden_act", "swish"});
  fails(clip("vision_config", {{"num_channels", 1}}), "unsupported", {"num_channels", "1"});
  fails(clip("vision_config", {{"num_attention_heads", 7}}), "bad_data", {"vision_config", "768", "7 heads"});
  fails(clip("vision_config", {{"image_size", {224, 112}}}), "bad_data", {"vision_config.image_size", "[224,112]"});
  fails(clip("vision_config", {{"image_size", 225}}), "unsupported", {"225", "patch_size 32"});
  fails(clip("vision_config", {{"hidden_size", 0}}), "bad_data", {"vision_config.hidden_size", "0"});
  fails(clip("vision_config", {{"hidden_size", "768"}}), "bad_data", {"vision_config.hidden_size", "\"768\""});
  fails(clip("vision_config", {{"layer_norm_eps", -1.0}}), "bad_data", {"-1"});
  fails(clip("text_config", {{"eos_token_id", {1, 2}}}), "bad_data", {"eos_token_id", "[1,2]"});
  fails(clip("text_config", {{"num_hidden_layers", 1e9}}), "bad_data", {"num_hidden_layers"});
  fails(clip("text_config", {{"num_hidden_layers", 18446744073709551615u}}), "bad_data", {"num_hidden_layers"});
  fails(clip("text_config", 5), "bad_data", {"text_config", "5", "object"});
  fails(clip("quantization_config", {{"bits", 4}}), "unsupported", {"quantization_config"});
  EXPECT_EQ(test::error_of([] { read_huggingface_config({{"architectures", {"CLIPModel"}}}, "c"); }), "");
}

TEST(PreprocessConfig, SameAsTransformers) {
  const Json all = cases("preprocess");
  ASSERT_GE(all.size(), 10u);
  for (const auto& [name, one] : all.items()) {
    SCOPED_TRACE(name);
    const Json& want = one["expect"];
    const PreprocessConfig got = read_preprocess_config(one["config"], "preprocessor_config.json", 224);
    EXPECT_EQ(got.fit.do_resize, want["do_resize"]);
    EXPECT_EQ(got.fit.do_center_crop, want["do_center_crop"]);
    const bool shortest = want["size"].contains("shortest_edge");
    EXPECT_EQ(got.fit.mode == image::FitOptions::ResizeMode::shortest_edge, shortest);
    EXPECT_EQ(got.fit.resize_height, want["size"][shortest ? "shortest_edge" : "height"]);
    EXPECT_EQ(got.fit.resize_width, want["size"][shortest ? "shortest_edge" : "width"]);
    EXPECT_EQ(got.fit.crop_height, want["crop"][0]);
    EXPECT_EQ(got.fit.crop_width, want["crop"][1]);
    EXPECT_EQ(got.fit.resample == image::Resample::bicubic, want["resample"] == 3);
    for (std::size_t c = 0; c < 3; ++c) {
      EXPECT_FLOAT_EQ(got.mean[c], want["mean"][c].get<float>());
      EXPECT_FLOAT_EQ(got.std[c], want["std"][c].get<float>());
    }
    EXPECT_FLOAT_EQ(got.rescale, want["rescale"].get<float>());
  }
}

TEST(PreprocessConfig, RefusedByName) {
  const auto fails = [](const Json& json, std::string_view code, const std::vector<std::string>& parts) {
    expect_error([&] { read_preprocess_config(json, "preprocessor_config.json", 224); }, code, parts);
  };
  fails({{"resample", 1}}, "unsupported", {"resample", "1"});
  fails({{"resample", nullptr}}, "unsupported", {"resample", "null"});
  fails({{"size", nullptr}}, "unsupported", {"size", "null"});
  fails({{"size", {{"longest_edge", 224}}}}, "unsupported", {"size", "longest_edge"});
  fails({{"size", {{"shortest_edge", 224}, {"longest_edge", 300}}}}, "unsupported", {"longest_edge"});
  fails({{"size", "big"}}, "unsupported", {"size", "big"});
  fails({{"size", -3}}, "bad_data", {"size", "-3"});
  fails({{"crop_size", 200}}, "bad_data", {"200x200", "image_size is 224"});
  fails({{"crop_size", {{"shortest_edge", 224}}}}, "unsupported", {"crop_size"});
  fails({{"do_center_crop", false}}, "unsupported", {"do_center_crop"});
  fails({{"do_resize", "yes"}}, "bad_data", {"do_resize", "yes"});
  fails({{"do_pad", true}}, "unsupported", {"do_pad"});
  fails({{"image_mean", {0.5, 0.5}}}, "bad_data", {"image_mean"});
  fails({{"image_std", {0.5, 0.0, 0.5}}}, "bad_data", {"image_std", "zero"});
  fails({{"image_processor_type", "ViTImageProcessor"}}, "unsupported", {"ViTImageProcessor"});
  fails({{"do_equalize", true}}, "unsupported", {"do_equalize"});
  fails({{"data_format", "channels_last"}}, "unsupported", {"data_format"});
}

TEST(OpenClipConfig, SameAsOpenClip) {
  const Json all = cases("openclip");
  ASSERT_GE(all.size(), 5u);
  for (const auto& [name, one] : all.items()) {
    SCOPED_TRACE(name);
    const Json& want = one["expect"];
    const Config got = read_openclip_config(one["config"], "open_clip_config.json");
    expect_shapes(got, want);
    const bool eos = want["text"]["pool"] == "eos";
    EXPECT_EQ(got.text.pool_rule, eos ? text::PoolRule::first_end : text::PoolRule::largest_id);
    if (eos) {
      EXPECT_EQ(got.text.end_id, want["text"]["eos"]);
    }
    const PreprocessConfig& p = got.preprocess;
    EXPECT_EQ(p.fit.resample == image::Resample::bicubic, want["interpolation"] == "bicubic");
    EXPECT_EQ(p.fit.mode == image::FitOptions::ResizeMode::exact, want["resize_mode"] == "squash");
    EXPECT_EQ(p.fit.do_center_crop, want["resize_mode"] == "shortest");
    EXPECT_EQ(p.fit.resize_height, want["vision"]["image"]);
    for (std::size_t c = 0; c < 3; ++c) {
      EXPECT_FLOAT_EQ(p.mean[c], want["mean"][c].get<float>());
      EXPECT_FLOAT_EQ(p.std[c], want["std"][c].get<float>());
    }
  }
}

TEST(OpenClipConfig, RefusedByName) {
  const Json base = cases("openclip")["plain"]["config"];
  const auto fails = [&](const char* section, const char* key, const Json& value,
                         std::string_view code = "unsupported") {
    Json json = base;
    (*section == '\0'    ? json["model_cfg"]
     : section[0] == 'p' ? json[section]
                         : json["model_cfg"][section])[key] = value;
    expect_error([&] { read_openclip_config(json, "open_clip_config.json"); }, code, {key});
  };
  for (const auto& [key, value] : std::vector<std::pair<const char*, Json>>{{"timm_model_name", "vit_base"},
                                                                            {"ls_init_value", 1e-5},
                                                                            {"no_ln_pre", true},
                                                                            {"attentional_pool", true},
                                                                            {"attentional_pool", "parallel"},
                                                                            {"pool_type", "avg"},
                                                                            {"pos_embed_type", "sin_cos_2d"},
                                                                            {"layers", {2, 2, 2, 2}},
                                                                            {"block_type", "custom"},
                                                                            {"qk_norm", true},
                                                                            {"scaled_cosine_attn", true},
                                                                            {"scale_heads", true},
                                                                            {"scale_attn_inner", true},
                                                                            {"scale_attn", true},
                                                                            {"scale_fc", true},
                                                                            {"new_key", 1}}) {
    fails("vision_cfg", key, value);
  }
  for (const auto& [key, value] :
       std::vector<std::pair<const char*, Json>>{{"hf_model_name", "roberta-base"},
                                                 {"hf_tokenizer_name", "bert"},
                                                 {"no_causal_mask", true},
                                                 {"embed_cls", true},
                                                 {"pool_type", "last"},
                                                 {"proj_type", "none"},
                                                 {"proj_bias", true},
                                                 {"ls_init_value", 0.1},
                                                 {"tokenizer_kwargs", {{"clean", "canonicalize"}}},
                                                 {"tokenizer_mode", "clips"},
                                                 {"new_key", 1}}) {
    fails("text_cfg", key, value);
  }
  fails("", "multimodal_cfg", {{"layers", 2}});
  fails("", "init_logit_bias", -10);
  fails("", "new_key", 1);
  fails("preprocess_cfg", "resize_mode", "longest");
  fails("preprocess_cfg", "interpolation", "lanczos");
  fails("preprocess_cfg", "mode", "L");
  fails("vision_cfg", "width", -1, "bad_data");
  fails("vision_cfg", "mlp_ratio", -1, "bad_data");
  fails("vision_cfg", "head_width", 65, "bad_data");
  fails("vision_cfg", "image_size", {28, 14}, "bad_data");

  Json json = base;
  json["model_cfg"]["vision_cfg"]["norm_kwargs"] = {{"elementwise_affine", false}};
  expect_error([&] { read_openclip_config(json, "c"); }, "unsupported", {"norm_kwargs.elementwise_affine"});
  // What a missing member stands for may not fit either.
  json = base;
  json["model_cfg"]["vision_cfg"]["width"] = 32;
  json["model_cfg"]["vision_cfg"].erase("head_width");
  expect_error([&] { read_openclip_config(json, "c"); }, "bad_data", {"vision_cfg.head_width is 64", "the width, 32"});
  json = base;
  json["model_cfg"]["vision_cfg"]["width"] = 1 << 24;
  json["model_cfg"]["vision_cfg"].erase("mlp_ratio");
  expect_error([&] { read_openclip_config(json, "c"); }, "bad_data", {"vision_cfg.mlp_ratio is 4.0", "16777216"});
  json = base;
  json["model_cfg"]["quick_gelu"] = true;
  json["model_cfg"]["text_cfg"]["act_kwargs"] = {{"approximate", "tanh"}};
  expect_error([&] { read_openclip_config(json, "c"); }, "unsupported", {"act_kwargs.approximate"});
  expect_error([&] { read_openclip_config({{"embed_dim", 3}}, "c"); }, "bad_data", {"no model_cfg"});
}

}  // namespace
}  // namespace tandem::model
