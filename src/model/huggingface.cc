// config.json as transformers 5.23 reads it: models/clip/configuration_clip.py, defaults and legacy keys included.
#include "base/strings.h"
#include "model/readers.h"
#include "tandem/error.h"

namespace tandem::model {
namespace {

constexpr int kMaxLayers = 1024, kMaxVocabulary = 1 << 24;

backend::ActivationFn activation(const Fields& fields) {
  const std::string name = fields.text("hidden_act", "quick_gelu");
  if (name == "quick_gelu") return backend::ActivationFn::quick_gelu;
  if (name == "gelu" || name == "gelu_python") return backend::ActivationFn::gelu_erf;
  // transformers' NewGELU and PyTorch's tanh approximation are the same formula.
  if (name == "gelu_new" || name == "gelu_pytorch_tanh") return backend::ActivationFn::gelu_tanh;
  throw Error(Code::unsupported, cat(fields.name("hidden_act"), " is \"", name,
                                     "\"; quick_gelu, gelu, gelu_new and gelu_pytorch_tanh are computed"));
}

struct TowerDefaults {
  int width, layers, heads, mlp;
};

void read_tower(const Fields& fields, const TowerDefaults& defaults, TowerConfig& tower) {
  tower.width = fields.integer("hidden_size", defaults.width);
  tower.layers = fields.integer("num_hidden_layers", defaults.layers, 1, kMaxLayers);
  tower.heads = fields.integer("num_attention_heads", defaults.heads);
  tower.mlp = fields.integer("intermediate_size", defaults.mlp);
  tower.activation = activation(fields);
  tower.norm_eps = static_cast<float>(fields.number("layer_norm_eps", 1e-5));
  check_tower(tower, fields.where());
  tower.head_dim = tower.width / tower.heads;
}

/// The nested configuration that counts. A legacy "…_config_dict" wins over "…_config" as a whole: transformers makes a
/// complete configuration of it, defaults included, and lets that override every value.
Fields tower_fields(const Fields& top, std::string_view kind) {
  const std::string legacy = cat(kind, "_config_dict"), current = cat(kind, "_config");
  return top.has(legacy) ? top.object(legacy) : top.object(current);
}

void check_family(const Fields& top) {
  const std::string type = top.text("model_type", "");
  if (type == "clip") return;
  if (type == "clip_vision_model" || type == "clip_text_model") {
    throw Error(Code::unsupported,
                cat(top.name("model_type"), " is \"", type, "\": one tower alone; a whole CLIPModel is read"));
  }
  if (type.empty()) {
    const Json* list = top.find("architectures");
    if (list != nullptr && *list == Json::array({"CLIPModel"})) return;
    throw Error(Code::unsupported, cat(top.where(), ": no model_type; expected \"clip\""));
  }
  throw Error(Code::unsupported, cat(top.name("model_type"), " is \"", type, "\"; only \"clip\" is computed"));
}

}  // namespace

void check_tower(const TowerConfig& tower, const std::string& where) {
  if (tower.width % tower.heads != 0) {
    throw Error(Code::bad_data, cat(where, "width ", tower.width, " does not divide into ", tower.heads, " heads"));
  }
  if (!(tower.norm_eps > 0))
    throw Error(Code::bad_data, cat(where, "LayerNorm epsilon ", tower.norm_eps, " is not positive"));
}

void check_vision(const VisionConfig& vision, const std::string& where) {
  if (vision.patch > vision.image_size) {
    throw Error(Code::bad_data, cat(where, "patch_size ", vision.patch, " exceeds image_size ", vision.image_size));
  }
  // transformers and open_clip would drop the pixels at the right and at the bottom; no published model does.
  if (vision.image_size % vision.patch != 0) {
    throw Error(Code::unsupported,
                cat(where, "image_size ", vision.image_size, " is no multiple of patch_size ", vision.patch));
  }
}

Config read_huggingface_config(const Json& json, const std::string& where) {
  const Fields top(json, where);
  check_family(top);
  if (top.has("quantization_config")) {
    throw Error(Code::unsupported,
                cat(where, ": quantization_config: quantised checkpoints are not read; use the original"));
  }

  Config config;
  config.layout = "huggingface";
  config.architecture = "CLIPModel";
  // Nested projection_dim values are for towers alone; the model's is at the top.
  config.embed_dim = top.integer("projection_dim", 512);
  config.logit_scale = static_cast<float>(top.number("logit_scale_init_value", 2.6592));

  const Fields vision = tower_fields(top, "vision");
  read_tower(vision, {768, 12, 12, 3072}, config.vision);
  config.vision.image_size = vision.square("image_size", 224);
  config.vision.patch = vision.square("patch_size", 32);
  check_vision(config.vision, vision.where());
  if (const int channels = vision.integer("num_channels", 3); channels != 3) {
    throw Error(Code::unsupported,
                cat(vision.name("num_channels"), " is ", channels, "; pictures have 3 channels here"));
  }

  const Fields text = tower_fields(top, "text");
  read_tower(text, {512, 12, 8, 2048}, config.text);
  config.text.vocab_size = text.integer("vocab_size", 49408, 2, kMaxVocabulary);
  config.text.context_length = text.integer("max_position_embeddings", 77, 2);
  // 2 was written by mistake into early configurations (transformers PR 24773) and means: the largest id of the text.
  config.text.start_id = text.integer("bos_token_id", 49406, 0, kMaxVocabulary);
  config.text.end_id = text.integer("eos_token_id", 49407, 0, kMaxVocabulary);
  config.text.pad_id = text.integer("pad_token_id", 1, -1, kMaxVocabulary);
  config.text.pool_rule = config.text.end_id == 2 ? text::PoolRule::largest_id : text::PoolRule::first_end;
  return config;
}

}  // namespace tandem::model
