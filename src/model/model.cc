#include "model/model.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <map>
#include <ranges>

#include "base/parallel_for.h"
#include "base/strings.h"
#include "model/shard.h"
#include "model/weights.h"

namespace tandem::model {
namespace {

/// All blocks in the device's memory.
class ResidentBlocks final : public BlockStore {
 public:
  explicit ResidentBlocks(std::vector<BlockWeights> blocks) : blocks_(std::move(blocks)) {}
  int count() const override { return static_cast<int>(blocks_.size()); }
  const BlockWeights& fetch(int i, backend::Backend&) const override { return blocks_[static_cast<std::size_t>(i)]; }
  void release(int, backend::Backend&) const noexcept override {}

 private:
  std::vector<BlockWeights> blocks_;
};

/// Lists, by canonical name, what a model needs and where it goes; then reads and prepares it all, a few tensors at a
/// time.
class Loader {
 public:
  Loader(const Config& config, WeightSource& source, backend::Backend& backend, const LoadOptions& options,
         Precision precision)
      : config_(config), reader_(config, source), backend_(backend), options_(options), precision_(precision) {
    for (auto& spec : weight_table(config)) {
      const std::string name = spec.name;
      table_.emplace(name, std::move(spec));
    }
  }

  void vector(const std::string& name, Tensor& out) {
    add(name, [this, &out](ConstView v) { out = counted(backend_.prepare_vector(v)); });
  }
  void table(const std::string& name, Tensor& out) {
    add(name, [this, &out](ConstView v) { out = counted(backend_.prepare_table(v, precision_)); });
  }
  void norm(const std::string& name, Norm& out) {
    vector(name + ".weight", out.gamma);
    vector(name + ".bias", out.beta);
  }
  void projection(const std::string& name, std::unique_ptr<backend::PreparedWeight>& out) {
    add(name, [this, &out](ConstView v) { out = counted(backend_.prepare_projection(v)); });
  }
  void linear(const std::string& name, Linear& out) {
    add(name + ".weight", [this, &out](ConstView v) { out.weight = counted(backend_.prepare_linear(v, precision_)); });
    vector(name + ".bias", out.bias);
  }
  /// Queries apart from keys and values.
  void q_and_kv(const std::string& name, Linear& q, Linear& kv) {
    add(name + ".weight", [this, &q, &kv](ConstView v) {
      const std::int64_t n = v.rows() / 3;
      q.weight = counted(backend_.prepare_linear(v.row_range(0, n), precision_));
      kv.weight = counted(backend_.prepare_linear(v.row_range(n, 2 * n), precision_));
    });
    add(name + ".bias", [this, &q, &kv](ConstView v) {
      const std::int64_t n = v.columns() / 3;
      const auto part = [&](std::int64_t first, std::int64_t count) {
        return ConstView(v.column_range(first, count).data, v.dtype, {count});
      };
      q.bias = counted(backend_.prepare_vector(part(0, n)));
      kv.bias = counted(backend_.prepare_vector(part(n, 2 * n)));
    });
  }
  /// `out` must stay where it is until run() has returned.
  void blocks(const std::string& tower, const TowerConfig& c, std::vector<BlockWeights>& out) {
    out.resize(static_cast<std::size_t>(c.layers));
    for (int i = 0; i < c.layers; ++i) {
      const std::string at = cat(tower, ".blocks.", i, ".");
      BlockWeights& w = out[static_cast<std::size_t>(i)];
      norm(at + "ln_1", w.ln_1);
      if (i + 1 < c.layers) {
        linear(at + "attn.qkv", w.qkv);
      } else {
        q_and_kv(at + "attn.qkv", w.q, w.kv);
      }
      linear(at + "attn.out", w.out);
      norm(at + "ln_2", w.ln_2);
      linear(at + "mlp.fc1", w.fc1);
      linear(at + "mlp.fc2", w.fc2);
    }
  }
  void patch_embed(std::unique_ptr<backend::PreparedWeight>& out) {
    if (config_.vision.patch_bias) add("vision.patch_embed.bias", {});
    add("vision.patch_embed.weight", [this, &out](ConstView v) {
      const auto& p = config_.preprocess;
      WeightReader::Loaded bias;
      if (config_.vision.patch_bias) bias = reader_.read(spec("vision.patch_embed.bias"));
      out = counted(backend_.prepare_patch_embed(v, bias.view, p.mean, p.std, p.rescale, precision_));
    });
  }
  /// What cosines are multiplied by: the stored value is a logarithm.
  void logit_scale(float& out) {
    add("logit_scale", [&out](ConstView v) {
      float value = 0;
      convert(v, {reinterpret_cast<std::byte*>(&value), DType::f32, v.shape});
      out = std::exp(value);
      if (!std::isfinite(out) || out > 1e6F) {
        throw Error(Code::bad_data, cat("logit_scale is ", value, ", so logits would be e^", value,
                                        " times a cosine: CLIP stores at most 4.61, the logarithm of 100"));
      }
    });
  }

  /// Reads and prepares everything that was listed; each tensor leaves memory as soon as it is prepared.
  void run() {
    for (const Task& task : tasks_) reader_.check(*task.spec);
    // The largest first: they overlap best, and stand in memory twice while little else does.
    std::ranges::stable_sort(tasks_, std::greater<>(), [](const Task& t) { return t.spec->shape.elements(); });
    parallel_for(options_.pool, options_.threads - 1, tasks_.size(), [this](std::size_t i) {
      const Task& task = tasks_[i];
      parameters_ += static_cast<std::size_t>(task.spec->shape.elements());
      if (!task.prepare) return;
      {
        const auto part =
            shard(reader_.read(*task.spec), task.spec->shard, options_.tensor_rank, options_.tensor_ranks);
        task.prepare(part.view);
      }
      reader_.release(*task.spec);
    });
    if (config_.vision.patch_bias && options_.vision) reader_.release(spec("vision.patch_embed.bias"));
  }
  std::size_t parameters() const { return parameters_; }
  std::size_t bytes() const { return bytes_; }

 private:
  struct Task {
    const WeightSpec* spec;
    std::function<void(ConstView)> prepare;  ///< none: read together with another
  };
  const WeightSpec& spec(const std::string& name) const {
    const auto found = table_.find(name);
    if (found == table_.end()) throw Error(Code::internal, cat("the table of weights lacks ", name));
    return found->second;
  }
  void add(const std::string& name, std::function<void(ConstView)> prepare) {
    tasks_.push_back({&spec(name), std::move(prepare)});
  }
  std::unique_ptr<backend::PreparedWeight> counted(std::unique_ptr<backend::PreparedWeight> weight) {
    bytes_ += weight->bytes();
    return weight;
  }
  Tensor counted(Tensor tensor) {
    bytes_ += tensor.bytes();
    return tensor;
  }

  const Config& config_;
  WeightReader reader_;
  backend::Backend& backend_;
  const LoadOptions& options_;
  Precision precision_;
  std::map<std::string, WeightSpec> table_;
  std::vector<Task> tasks_;
  std::atomic<std::size_t> parameters_ = 0, bytes_ = 0;
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
  check_family(files.config);  // before the weights are looked for
  return load_model(files, *files.open_weights(), backend, options);
}

Model load_model(const ModelFiles& files, WeightSource& source, backend::Backend& backend, const LoadOptions& options) {
  check_family(files.config);
  check_ranks(files.config, options.tensor_rank, options.tensor_ranks);
  Model m;
  m.config = files.config;
  m.precision = backend.resolve(options.precision);
  m.hash = source.hash();
  Loader load(m.config, source, backend, options, m.precision);
  std::vector<BlockWeights> vision_blocks, text_blocks;
  if (options.vision) {
    VisionWeights& v = m.vision.emplace();
    load.patch_embed(v.patch_embed);
    load.vector("vision.class_embedding", v.class_embedding);
    load.vector("vision.position_embedding", v.position);
    load.norm("vision.ln_pre", v.ln_pre);
    load.blocks("vision", m.config.vision, vision_blocks);
    load.norm("vision.ln_post", v.ln_post);
    load.projection("vision.projection", v.projection);
  }
  if (options.text) {
    TextWeights& t = m.text.emplace();
    load.table("text.token_embedding", t.token);
    load.vector("text.position_embedding", t.position);
    load.blocks("text", m.config.text, text_blocks);
    load.norm("text.ln_final", t.ln_final);
    load.projection("text.projection", t.projection);
  }
  load.logit_scale(m.logit_scale);
  load.run();
  if (m.vision) m.vision->blocks = std::make_unique<ResidentBlocks>(std::move(vision_blocks));
  if (m.text) m.text->blocks = std::make_unique<ResidentBlocks>(std::move(text_blocks));
  backend.synchronize();
  m.parameters = load.parameters();
  m.weight_bytes = load.bytes();
  return m;
}

std::size_t expected_weight_bytes(const Config& config, const backend::Backend& backend, const LoadOptions& options) {
  const std::size_t element = size_of(backend.types(backend.resolve(options.precision)).activation);
  std::size_t bytes = 0;
  for (const WeightSpec& spec : weight_table(config)) {
    const bool vision = spec.name.starts_with("vision."), text = spec.name.starts_with("text.");
    if ((vision && !options.vision) || (text && !options.text) || !(vision || text)) continue;
    if (spec.name == "vision.patch_embed.bias") continue;  // part of the prepared matrix
    // Matrices that blocks multiply by, patches and tokens have the precision's type; everything else is float32.
    const bool kept =
        spec.shape.rank() == 1 || spec.name.ends_with("projection") || spec.name.ends_with("position_embedding");
    const Shape part = shard_shape(spec, options.tensor_ranks);
    bytes += static_cast<std::size_t>(part.elements()) * (kept ? sizeof(float) : element);
  }
  return bytes;
}

}  // namespace tandem::model
