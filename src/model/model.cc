#include "model/model.h"

#include <cmath>
#include <map>

#include "base/strings.h"
#include "model/weights.h"

namespace tandem::model {
namespace {

/// All blocks in the device's memory.
class ResidentBlocks final : public BlockStore {
 public:
  explicit ResidentBlocks(std::vector<BlockWeights> blocks) : blocks_(std::move(blocks)) {}
  int count() const override { return static_cast<int>(blocks_.size()); }
  const BlockWeights& block(int i) const override { return blocks_[static_cast<std::size_t>(i)]; }

 private:
  std::vector<BlockWeights> blocks_;
};

/// Walks the table of weights by canonical name.
class Loader {
 private:
  const WeightSpec& spec(const std::string& name) const {
    const auto found = table_.find(name);
    if (found == table_.end()) throw Error(Code::internal, cat("the table of weights lacks ", name));
    return found->second;
  }
  template <class Prepare>
  auto read(const std::string& name, Prepare prepare, bool release_after = true) {
    const WeightSpec& s = spec(name);
    const auto loaded = reader_.read(s);
    auto prepared = prepare(loaded.view);
    if (release_after) release(name);
    return prepared;
  }
  void release(const std::string& name) {
    const WeightSpec& s = spec(name);
    parameters_ += static_cast<std::size_t>(s.shape.elements());
    reader_.release(s);
  }
  std::unique_ptr<backend::PreparedWeight> counted(std::unique_ptr<backend::PreparedWeight> weight) {
    bytes_ += weight->bytes();
    return weight;
  }

 public:
  Loader(const Config& config, WeightSource& source, backend::Backend& backend, Precision precision)
      : config_(config), reader_(config, source), backend_(backend), precision_(precision) {
    for (auto& spec : weight_table(config)) {
      const std::string name = spec.name;
      table_.emplace(name, std::move(spec));
    }
  }

  Tensor vector(const std::string& name) {
    return read(name, [&](ConstView v) {
      Tensor t = backend_.prepare_vector(v);
      bytes_ += t.bytes();
      return t;
    });
  }
  Tensor table(const std::string& name) {
    return read(name, [&](ConstView v) {
      Tensor t = backend_.prepare_table(v, precision_);
      bytes_ += t.bytes();
      return t;
    });
  }
  Norm norm(const std::string& name) { return {vector(name + ".weight"), vector(name + ".bias")}; }
  std::unique_ptr<backend::PreparedWeight> projection(const std::string& name) {
    return read(name, [&](ConstView v) { return counted(backend_.prepare_projection(v)); });
  }
  Linear linear(const std::string& name) {
    return {read(name + ".weight", [&](ConstView v) { return counted(backend_.prepare_linear(v, precision_)); }),
            vector(name + ".bias")};
  }
  /// The rows [first, first + count) of a linear layer, as a layer of their own.
  Linear rows(const std::string& name, std::int64_t first, std::int64_t count) {
    Linear out;
    out.weight = read(
        name + ".weight",
        [&](ConstView v) { return counted(backend_.prepare_linear(v.row_range(first, count), precision_)); }, false);
    out.bias = read(
        name + ".bias",
        [&](ConstView v) {
          const ConstView part(v.data + first * static_cast<std::int64_t>(size_of(v.dtype)), v.dtype, {count});
          return backend_.prepare_vector(part);
        },
        false);
    bytes_ += out.bias.bytes();
    return out;
  }
  std::unique_ptr<BlockStore> blocks(const std::string& tower, const TowerConfig& c) {
    std::vector<BlockWeights> out(static_cast<std::size_t>(c.layers));
    for (int i = 0; i < c.layers; ++i) {
      const std::string at = cat(tower, ".blocks.", i, ".");
      BlockWeights& w = out[static_cast<std::size_t>(i)];
      w.ln_1 = norm(at + "ln_1");
      if (i + 1 < c.layers) {
        w.qkv = linear(at + "attn.qkv");
      } else {
        w.q = rows(at + "attn.qkv", 0, c.width);
        w.kv = rows(at + "attn.qkv", c.width, 2 * c.width);
        release(at + "attn.qkv.weight");
        release(at + "attn.qkv.bias");
      }
      w.out = linear(at + "attn.out");
      w.ln_2 = norm(at + "ln_2");
      w.fc1 = linear(at + "mlp.fc1");
      w.fc2 = linear(at + "mlp.fc2");
    }
    return std::make_unique<ResidentBlocks>(std::move(out));
  }
  std::unique_ptr<backend::PreparedWeight> patch_embed() {
    const auto& p = config_.preprocess;
    WeightReader::Loaded bias;
    if (config_.vision.patch_bias) bias = reader_.read(spec("vision.patch_embed.bias"));
    return read("vision.patch_embed.weight", [&](ConstView v) {
      return counted(backend_.prepare_patch_embed(v, bias.view, p.mean, p.std, p.rescale, precision_));
    });
  }
  /// What cosines are multiplied by: the stored value is a logarithm.
  float logit_scale() {
    const auto loaded = reader_.read(spec("logit_scale"));
    float value = 0;
    convert(loaded.view, {reinterpret_cast<std::byte*>(&value), DType::f32, loaded.view.shape});
    const float scale = std::exp(value);
    if (!std::isfinite(scale) || scale > 1e6F) {
      throw Error(Code::bad_data, cat("logit_scale is ", value, ", so logits would be e^", value,
                                      " times a cosine: CLIP stores at most 4.61, the logarithm of 100"));
    }
    return scale;
  }
  std::size_t parameters() const { return parameters_; }
  std::size_t bytes() const { return bytes_; }

 private:
  const Config& config_;
  WeightReader reader_;
  backend::Backend& backend_;
  Precision precision_;
  std::map<std::string, WeightSpec> table_;
  std::size_t parameters_ = 0, bytes_ = 0;
};

}  // namespace

text::TokenizerOptions tokenizer_options(const ModelFiles& files, Cleaning cleaning) {
  const TextConfig& c = files.config.text;
  text::TokenizerOptions o;
  if (cleaning == Cleaning::automatic) cleaning = files.cleaning;
  o.cleaning = cleaning == Cleaning::openai ? text::Cleaning::openai : text::Cleaning::hf;
  o.context_length = c.context_length;
  o.pool_rule = c.pool_rule;
  o.pool_id = c.end_id;
  // A random model has a published shape and whatever vocabulary was at hand: CLIP's own start and end rule.
  if (files.config.layout == "random") o.start_id = c.start_id, o.end_id = c.end_id, o.pad_id = c.pad_id;
  return o;
}

Model load_model(const ModelFiles& files, backend::Backend& backend, const LoadOptions& options) {
  Model m;
  m.config = files.config;
  m.precision = backend.resolve(options.precision);
  const auto source = files.open_weights();
  m.hash = source->hash();
  Loader load(m.config, *source, backend, m.precision);
  if (options.vision) {
    VisionWeights v;
    v.patch_embed = load.patch_embed();
    v.class_embedding = load.vector("vision.class_embedding");
    v.position = load.vector("vision.position_embedding");
    v.ln_pre = load.norm("vision.ln_pre");
    v.blocks = load.blocks("vision", m.config.vision);
    v.ln_post = load.norm("vision.ln_post");
    v.projection = load.projection("vision.projection");
    m.vision = std::move(v);
  }
  if (options.text) {
    TextWeights t;
    t.token = load.table("text.token_embedding");
    t.position = load.vector("text.position_embedding");
    t.blocks = load.blocks("text", m.config.text);
    t.ln_final = load.norm("text.ln_final");
    t.projection = load.projection("text.projection");
    m.text = std::move(t);
  }
  m.logit_scale = load.logit_scale();
  m.parameters = load.parameters();
  m.weight_bytes = load.bytes();
  return m;
}

}  // namespace tandem::model
