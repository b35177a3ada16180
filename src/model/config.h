// What a CLIP-family model is: read from its files, never changed afterwards. Enumerations name what other families do
// too; readers refuse by name what is not computed here.
#pragma once

#include <cstdint>
#include <string>

#include "backend/backend.h"
#include "image/fit.h"
#include "text/tokenizer.h"

namespace tandem::model {

enum class Pooling : std::uint8_t { cls, eot, last, mean, map };
enum class TextMask : std::uint8_t { causal, full };
/// What stands behind a text's end: never computed, since in a causal tower nothing before it can see it; or the
/// padding id up to the context's length, which every row attends to (SigLIP).
enum class TextPadding : std::uint8_t { unseen, attended };
enum class Score : std::uint8_t { softmax, sigmoid /* with a bias on the logits */ };

/// One transformer tower: pre-norm blocks of the same shape.
struct TowerConfig {
  int width = 0;  ///< D
  int layers = 0;
  int heads = 0;
  int head_dim = 0;  ///< width / heads
  int mlp = 0;       ///< columns of fc1
  backend::ActivationFn activation = backend::ActivationFn::quick_gelu;
  float norm_eps = 1e-5F;
  friend bool operator==(const TowerConfig&, const TowerConfig&) = default;
};

struct VisionConfig : TowerConfig {
  int image_size = 0;
  int patch = 0;
  Pooling pooling = Pooling::cls;
  bool class_token = true;
  bool pre_norm = true;          ///< LayerNorm between embedding and blocks
  bool patch_bias = false;       ///< on the patch embedding
  bool projection_bias = false;  ///< on the projection into the joint space
  friend bool operator==(const VisionConfig&, const VisionConfig&) = default;
  int grid() const noexcept { return image_size / patch; }
  int tokens() const noexcept { return grid() * grid() + (class_token ? 1 : 0); }
};

struct TextConfig : TowerConfig {
  int vocab_size = 0;
  int context_length = 77;
  Pooling pooling = Pooling::eot;
  TextMask mask = TextMask::causal;
  TextPadding padding = TextPadding::unseen;
  bool projection_bias = false;
  text::PoolRule pool_rule = text::PoolRule::first_end;
  std::int32_t start_id = 49406, end_id = 49407, pad_id = 49407;
  friend bool operator==(const TextConfig&, const TextConfig&) = default;
};

/// How pictures become the vision tower's input.
struct PreprocessConfig {
  image::FitOptions fit;
  float mean[3] = {0.48145466F, 0.4578275F, 0.40821073F};
  float std[3] = {0.26862954F, 0.26130258F, 0.27577711F};
  float rescale = 1.0F / 255.0F;
};

struct Config {
  std::string name;          ///< as the user gave it
  std::string layout;        ///< "huggingface", "openclip" or "random"
  std::string architecture;  ///< model_type or model name from the file, for people
  VisionConfig vision;
  TextConfig text;
  PreprocessConfig preprocess;
  int embed_dim = 0;
  float logit_scale = 2.6592F;  ///< initial value, as a logarithm; the weights' own replaces it
  Score score = Score::softmax;
  float logit_bias = 0;  ///< added to scaled cosines before a sigmoid
};

/// Throws unsupported, naming what the configuration asks for, where it is understood but not computed here. Readers
/// refuse by the key of their file; this stands behind all of them, in front of every load.
void check_family(const Config& config);

/// Whether weights prepared for one configuration serve another: everything but names and what prepares inputs.
bool same_network(const Config& a, const Config& b);

}  // namespace tandem::model
