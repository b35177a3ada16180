// open_clip_config.json as open_clip 3.3 reads it: model.py's CLIPVisionCfg and CLIPTextCfg, transform.py's
// PreprocessCfg, factory.py. Every key of those classes is either read, or known to be without effect when a trained
// model is run, or refused by name unless it has the value that means "not used"; other keys are errors there too.
#include <cmath>

#include "base/strings.h"
#include "model/readers.h"
#include "tandem/error.h"

namespace tandem::model {
namespace {

constexpr int kMaxLayers = 1024, kMaxVocabulary = 1 << 24;

[[noreturn]] void refuse(const Fields& fields, std::string_view key, std::string_view why) {
  throw Error(Code::unsupported, cat(fields.name(key), " is ", show(*fields.find(key)), ": ", why));
}

bool unset(const Json& value) {
  // NOLINTNEXTLINE(readability-container-size-empty): to empty(), a JSON string is never empty
  return value.is_null() || value == false || value == "" || ((value.is_object() || value.is_array()) && value.empty());
}

void refuse_if_set(const Fields& fields, std::initializer_list<std::pair<std::string_view, std::string_view>> keys) {
  for (const auto& [key, why] : keys) {
    const Json* value = fields.find(key);
    if (value != nullptr && !unset(*value)) refuse(fields, key, why);
  }
}

void refuse_unknown(const Fields& fields) {
  const auto unknown = fields.unknown();
  if (!unknown.empty()) refuse(fields, unknown.front(), "this key is not known here, and may change what is computed");
}

/// What both towers' classes share.
void read_block_options(const Fields& fields, bool quick_gelu, TowerConfig& tower) {
  refuse_if_set(fields, {{"ls_init_value", "LayerScale is not computed"},
                         {"qk_norm", "norms of queries and keys are not computed"},
                         {"scaled_cosine_attn", "cosine attention is not computed"},
                         {"scale_heads", "scales of heads are not computed"},
                         {"scale_attn_inner", "norms inside attention are not computed"},
                         {"scale_attn", "norms after attention are not computed"},
                         {"scale_fc", "norms inside the MLP are not computed"}});
  if (fields.text("block_type", "default") != "default")
    refuse(fields, "block_type", "only \"default\" blocks are computed");

  tower.activation = quick_gelu ? backend::ActivationFn::quick_gelu : backend::ActivationFn::gelu_erf;
  const Fields act = fields.object("act_kwargs");
  const std::string approximate = act.text("approximate", "none");
  const bool known = !quick_gelu && (approximate == "none" || approximate == "tanh");
  if (act.has("approximate") && !known) refuse(act, "approximate", "only GELU takes it, as \"none\" or \"tanh\"");
  if (approximate == "tanh") tower.activation = backend::ActivationFn::gelu_tanh;
  refuse_unknown(act);

  const Fields norm = fields.object("norm_kwargs");
  tower.norm_eps = static_cast<float>(norm.number("eps", 1e-5));
  refuse_unknown(norm);

  // output_tokens adds outputs that are not read here.
  fields.ignore({"output_tokens"});
}

int mlp_width(const Fields& fields, int width) {
  const double ratio = fields.number("mlp_ratio", 4.0);
  const double columns = width * ratio;  // open_clip: int(width * mlp_ratio)
  constexpr int kMost = (1 << 24) - 1;
  if (!(columns >= 1 && columns <= kMost))
    fields.reject("mlp_ratio", ratio, cat("a ratio that makes 1 to ", kMost, " columns of the width, ", width));
  return static_cast<int>(columns);
}

void read_vision(const Fields& fields, bool quick_gelu, VisionConfig& vision) {
  refuse_if_set(fields, {{"timm_model_name", "timm towers are not computed"},
                         {"attentional_pool", "attentional pooling is not computed"},
                         {"no_ln_pre", "towers without ln_pre are not computed"}});
  if (fields.text("pos_embed_type", "learnable") != "learnable") {
    refuse(fields, "pos_embed_type", "only learnable position embeddings are read");
  }
  if (fields.text("pool_type", "tok") != "tok") refuse(fields, "pool_type", "only the class token (\"tok\") is pooled");
  if (const Json* layers = fields.find("layers"); layers != nullptr && layers->is_array()) {
    refuse(fields, "layers", "ResNet towers are not computed");
  }
  read_block_options(fields, quick_gelu, vision);
  vision.width = fields.integer("width", 768);
  vision.layers = fields.integer("layers", 12, 1, kMaxLayers);
  const int head_width = fields.integer("head_width", 64);
  vision.heads = vision.width / head_width;
  if (vision.heads < 1)
    fields.reject("head_width", head_width, cat("at most the width, ", vision.width, " (64 where it is missing)"));
  check_tower(vision, fields.where());
  vision.head_dim = vision.width / vision.heads;
  vision.mlp = mlp_width(fields, vision.width);
  vision.image_size = fields.square("image_size", 224);
  vision.patch = fields.square("patch_size", 16);
  check_vision(vision, fields.where());
  // The final norm works on each row alone, so that pooling one row before or after it is the same; patch_dropout acts
  // in training only; the others belong to what was refused above.
  fields.ignore({"final_ln_after_pool", "patch_dropout", "attn_pooler_queries", "attn_pooler_heads",
                 "timm_model_pretrained", "timm_pool", "timm_proj", "timm_proj_bias", "timm_drop", "timm_drop_path"});
  refuse_unknown(fields);
}

void read_text(const Fields& fields, bool quick_gelu, TextConfig& text) {
  refuse_if_set(fields, {{"hf_model_name", "Hugging Face text towers are not computed"},
                         {"hf_tokenizer_name", "only CLIP's own tokenizer is read in OpenCLIP folders"},
                         {"tokenizer_mode", "only CLIP's own tokenizer is read in OpenCLIP folders"},
                         {"tokenizer_kwargs", "only the default tokenizer options are implemented"},
                         {"embed_cls", "a class token for texts is not computed"},
                         {"no_causal_mask", "text towers without a causal mask are not computed"},
                         {"proj_bias", "a bias of the text projection is not computed"}});
  if (fields.text("proj_type", "linear") != "linear")
    refuse(fields, "proj_type", "only \"linear\" projections are computed");
  read_block_options(fields, quick_gelu, text);
  text.width = fields.integer("width", 512);
  text.layers = fields.integer("layers", 12, 1, kMaxLayers);
  text.heads = fields.integer("heads", 8);
  check_tower(text, fields.where());
  text.head_dim = text.width / text.heads;
  text.mlp = mlp_width(fields, text.width);
  text.context_length = fields.integer("context_length", 77, 2);
  text.vocab_size = fields.integer("vocab_size", 49408, 2, kMaxVocabulary);
  text.pad_id = fields.integer("pad_id", 0, 0, kMaxVocabulary);
  const int eos_id = fields.integer("eos_id", 2, 0, kMaxVocabulary);
  const std::string pool = fields.text("pool_type", "argmax");
  if (pool == "argmax") {
    text.pool_rule = text::PoolRule::largest_id;
    text.end_id = text.vocab_size - 1;
    text.start_id = text.vocab_size - 2;
  } else if (pool == "eos") {
    text.pool_rule = text::PoolRule::first_end;
    text.end_id = eos_id;
  } else {
    refuse(fields, "pool_type", "texts are pooled at the end token (\"argmax\" or \"eos\")");
  }
  // The text tower's class does not even take final_ln_after_pool; the hf_ keys belong to what was refused above.
  fields.ignore({"final_ln_after_pool", "hf_model_pretrained", "hf_proj_type", "hf_pooler_type"});
  refuse_unknown(fields);
}

PreprocessConfig read_preprocess(const Fields& fields, int image_size) {
  PreprocessConfig out = default_preprocess(image_size);
  out.fit.reference = image::Reference::openai;
  if (fields.text("mode", "RGB") != "RGB") refuse(fields, "mode", "only \"RGB\" pictures are taken");
  const std::string interpolation = fields.text("interpolation", "bicubic");
  if (interpolation == "bilinear") {
    out.fit.resample = image::Resample::bilinear;
  } else if (interpolation != "bicubic" && interpolation != "random") {  // "random" is bicubic outside training
    refuse(fields, "interpolation", "bicubic and bilinear are computed");
  }
  const std::string mode = fields.text("resize_mode", "shortest");
  if (mode == "squash") {
    out.fit.mode = image::FitOptions::ResizeMode::exact;
    out.fit.do_center_crop = false;
  } else if (mode != "shortest") {
    refuse(fields, "resize_mode", "shortest and squash are computed");
  }
  fields.triple("mean", out.mean);
  fields.triple("std", out.std);
  for (const float s : out.std) {
    if (s == 0) throw Error(Code::bad_data, cat(fields.name("std"), " has a zero"));
  }
  // open_clip sets size from the tower, fills only what "longest" leaves empty, and drops keys that it does not know.
  return out;
}

}  // namespace

Config read_openclip_config(const Json& json, const std::string& where) {
  const Fields file(json, where);
  if (!file.has("model_cfg"))
    throw Error(Code::bad_data, cat(where, ": no model_cfg; expected an OpenCLIP configuration"));
  const Fields top = file.object("model_cfg");
  for (const std::string_view key : {"embed_dim", "vision_cfg", "text_cfg"}) {
    if (!top.has(key)) throw Error(Code::bad_data, cat(top.name(key), " is missing"));
  }
  refuse_if_set(top, {{"multimodal_cfg", "CoCa's captioning decoder is not computed"}});
  if (top.has("init_logit_bias"))
    refuse(top, "init_logit_bias", "sigmoid scores with a bias (SigLIP) are not computed");

  Config config;
  config.layout = "openclip";
  config.embed_dim = top.integer("embed_dim", 0);
  config.logit_scale = static_cast<float>(top.number("init_logit_scale", 2.6592600));  // ln(1 / 0.07)
  const bool quick_gelu = top.boolean("quick_gelu", false);
  config.architecture = top.boolean("custom_text", false) ? "CustomTextCLIP" : "CLIP";
  read_vision(top.object("vision_cfg"), quick_gelu, config.vision);
  read_text(top.object("text_cfg"), quick_gelu, config.text);
  top.ignore({"nonscalar_logit_scale", "cast_dtype", "output_dict"});
  refuse_unknown(top);
  config.preprocess = read_preprocess(file.object("preprocess_cfg"), config.vision.image_size);
  return config;
}

}  // namespace tandem::model
