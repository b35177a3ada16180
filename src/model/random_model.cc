// Models with seeded random weights, so that speed and memory can be measured without a download. Every element comes
// from its position, its tensor's name and the seed alone: the same bits on every machine, whatever the threads.
#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "base/strings.h"
#include "model/digest.h"
#include "model/files.h"
#include "model/readers.h"
#include "model/weights.h"
#include "tandem/error.h"

namespace tandem::model {
namespace {

struct Architecture {
  std::string_view name;
  int image, patch, width, layers, heads, mlp;  // vision
  int text_width, text_layers, text_heads;
  int embed_dim;
  backend::ActivationFn activation;
};
using enum backend::ActivationFn;
/// Shapes as published (open_clip's model_configs). The activation is the one of the best known checkpoint: OpenAI's
/// for B and L, LAION's for H and bigG.
constexpr Architecture kArchitectures[] = {
    {"ViT-B-32", 224, 32, 768, 12, 12, 3072, 512, 12, 8, 512, quick_gelu},
    {"ViT-B-16", 224, 16, 768, 12, 12, 3072, 512, 12, 8, 512, quick_gelu},
    {"ViT-L-14", 224, 14, 1024, 24, 16, 4096, 768, 12, 12, 768, quick_gelu},
    {"ViT-L-14-336", 336, 14, 1024, 24, 16, 4096, 768, 12, 12, 768, quick_gelu},
    {"ViT-H-14", 224, 14, 1280, 32, 16, 5120, 1024, 24, 16, 1024, gelu_erf},
    {"ViT-bigG-14", 224, 14, 1664, 48, 16, 8192, 1280, 32, 20, 1280, gelu_erf},
};

void set_tower(TowerConfig& tower, int width, int layers, int heads, int mlp, backend::ActivationFn activation) {
  tower.width = width;
  tower.layers = layers;
  tower.heads = heads;
  tower.head_dim = width / heads;
  tower.mlp = mlp;
  tower.activation = activation;
}

Config make_config(const Architecture& a, std::uint64_t seed) {
  Config config;
  config.name = cat("random:", a.name, ":", seed);
  config.layout = "random";
  config.architecture = a.name;
  set_tower(config.vision, a.width, a.layers, a.heads, a.mlp, a.activation);
  config.vision.image_size = a.image;
  config.vision.patch = a.patch;
  set_tower(config.text, a.text_width, a.text_layers, a.text_heads, 4 * a.text_width, a.activation);
  config.text.vocab_size = 49408;
  config.embed_dim = a.embed_dim;
  config.preprocess = default_preprocess(a.image);
  return config;
}

/// How a tensor's values are distributed: normal with this mean and deviation.
struct Spread {
  double mean = 0, deviation = 0;
};

/// CLIP's own initialisation (open_clip's TextTransformer.init_parameters, used for both towers), with norms and biases
/// that are not exactly one and zero, so that no engine gains by guessing them.
Spread spread_of(const WeightSpec& spec, const Config& config) {
  const std::string_view name = spec.name;
  const TowerConfig& tower = name.starts_with("vision.") ? static_cast<const TowerConfig&>(config.vision)
                                                         : static_cast<const TowerConfig&>(config.text);
  const double by_width = 1 / std::sqrt(static_cast<double>(tower.width));
  const double into_residual = by_width / std::sqrt(2.0 * tower.layers);
  if (name == "logit_scale") return {static_cast<double>(config.logit_scale), 0};
  if (name.find("ln_") != std::string_view::npos) return name.ends_with(".weight") ? Spread{1, 0.1} : Spread{0, 0.02};
  if (name.ends_with(".bias")) return {0, 0.02};
  if (name.ends_with("attn.qkv.weight")) return {0, by_width};
  if (name.ends_with("attn.out.weight") || name.ends_with("mlp.fc2.weight")) return {0, into_residual};
  if (name.ends_with("mlp.fc1.weight")) return {0, by_width / std::sqrt(2.0)};
  if (name == "vision.patch_embed.weight") return {0, 1 / std::sqrt(3.0 * config.vision.patch * config.vision.patch)};
  if (name == "text.token_embedding") return {0, 0.02};
  if (name == "text.position_embedding") return {0, 0.01};
  return {0, by_width};  // the class and position embeddings of pictures, both projections
}

/// SplitMix64's output function (Steele, Lea and Flood 2014) on a counter.
constexpr std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

/// Elements [first, last): the sum of a hash's four 16-bit quarters, which is near normal (Irwin-Hall). The sum and its
/// conversion are exact; this file is compiled without fused multiply-add, so that the rest rounds alike everywhere.
void fill(float* out, std::int64_t first, std::int64_t last, std::uint64_t key, const Spread& spread) {
  constexpr double kSumDeviation = 37837.22746;  // sqrt(4 (65536^2 - 1) / 12)
  constexpr int kSumMean = 2 * 65535;
  const auto scale = static_cast<float>(spread.deviation / kSumDeviation);
  const auto mean = static_cast<float>(spread.mean);
  for (std::int64_t i = first; i < last; ++i) {
    const std::uint64_t h = mix(key + static_cast<std::uint64_t>(i) * 0x9e3779b97f4a7c15u);
    const std::uint64_t pairs = (h & 0x0000ffff0000ffffu) + ((h >> 16) & 0x0000ffff0000ffffu);
    const int sum = static_cast<int>((pairs & 0xffffffffu) + (pairs >> 32));
    out[i] = static_cast<float>(sum - kSumMean) * scale + mean;
  }
}

class RandomSource final : public WeightSource {
 public:
  RandomSource(const Config& config, std::uint64_t seed) : seed_(seed), architecture_(config.architecture) {
    for (WeightSpec& spec : weight_table(config)) {
      const Spread spread = spread_of(spec, config);
      const std::string name = spec.name;
      tensors_.emplace(name, Entry{std::move(spec), spread});
    }
  }

  std::vector<std::string> names() const override {
    std::vector<std::string> out;
    for (const auto& [name, entry] : tensors_) out.push_back(name);
    return out;
  }

  std::optional<Info> find(std::string_view name) const override {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) return std::nullopt;
    return Info{DType::f32, found->second.spec.shape};
  }

  ConstView get(std::string_view name) override {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) throw Error(Code::bad_data, cat("tensor ", name, " is not in this model"));
    {
      const std::scoped_lock lock(mutex_);
      const auto kept = made_.find(name);
      if (kept != made_.end()) return kept->second.view();
    }
    Tensor tensor = generate(found->second);
    const std::scoped_lock lock(mutex_);
    return made_.emplace(found->first, std::move(tensor)).first->second.view();  // an equal one may be there by now
  }

  void release(std::string_view name) override {
    const std::scoped_lock lock(mutex_);
    const auto kept = made_.find(name);
    if (kept != made_.end()) made_.erase(kept);
  }

  std::string hash() const override {
    Digest digest;
    digest.add(std::as_bytes(std::span(architecture_)));
    digest.add(seed_);
    return digest.hex();
  }

 private:
  struct Entry {
    WeightSpec spec;
    Spread spread;
  };

  Tensor generate(const Entry& entry) const {
    Digest digest;
    digest.add(std::as_bytes(std::span(entry.spec.name)));
    digest.add(seed_);
    const std::uint64_t key = mix(digest.value());

    Tensor tensor = host_tensor(DType::f32, entry.spec.shape);
    float* out = tensor.view().as<float>();
    const std::int64_t count = entry.spec.shape.elements();
    constexpr std::int64_t kWorthAThread = 1 << 18;
    const std::int64_t cores = std::max(1u, std::thread::hardware_concurrency());
    const std::int64_t pieces = std::clamp<std::int64_t>(count / kWorthAThread, 1, cores);
    std::vector<std::jthread> helpers;
    for (std::int64_t p = 1; p < pieces; ++p) {
      helpers.emplace_back([&, p] { fill(out, count * p / pieces, count * (p + 1) / pieces, key, entry.spread); });
    }
    fill(out, 0, count / pieces, key, entry.spread);
    return tensor;  // the helpers are joined before this leaves
  }

  std::uint64_t seed_;
  std::string architecture_;
  std::map<std::string, Entry, std::less<>> tensors_;
  std::mutex mutex_;
  std::map<std::string, Tensor, std::less<>> made_;
};

}  // namespace

std::vector<std::string_view> random_architectures() {
  std::vector<std::string_view> out;
  for (const Architecture& a : kArchitectures) out.push_back(a.name);
  return out;
}

ModelFiles open_random(std::string_view architecture, std::uint64_t seed) {
  const auto* found = std::ranges::find(kArchitectures, architecture, &Architecture::name);
  if (found == std::end(kArchitectures)) {
    std::string names;
    for (const std::string_view name : random_architectures()) names += cat(names.empty() ? "" : ", ", name);
    throw Error(Code::not_found, cat("no random model \"", architecture, "\"; choose one of ", names));
  }
  ModelFiles files;
  files.config = make_config(*found, seed);
  files.reference = Reference::hf_fast;
  files.cleaning = Cleaning::hf;
  files.tokenizer_help = "random models have no tokenizer of their own: name one with --vocab";
  files.open_weights = [config = files.config, seed] { return std::make_unique<RandomSource>(config, seed); };
  return files;
}

}  // namespace tandem::model
