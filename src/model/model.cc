#include "model/model.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <numeric>
#include <ranges>

#include "base/parallel_for.h"
#include "base/strings.h"
#include "model/eight_bit.h"
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

/// Whether the rows that pooling reads are computed more precisely than a precision asks. In a last block everything
/// but keys and values is computed of one row an input (transformer.cc), and what is wrong there nothing averages any
/// more: it costs a vector about as much as a whole block does, for a hundredth of the work. A processor would wait for
/// the larger weights: there int8 stays.
bool keeps_pooled(Precision p) {
  return p == Precision::fp8;
}

/// The table's "vision.blocks.5.attn.qkv" is "vision.blocks.5.qkv" to those who choose.
const LayerChoice& choice_of(const EightBit& choices, const std::string& name) {
  const std::size_t last = name.rfind('.'), part = name.rfind('.', last - 1);
  return choices.of(name.substr(0, part) + name.substr(last));
}

/// A matrix or a vector in float32, its columns multiplied by the factors, or divided by them.
Tensor scaled_columns(ConstView from, const std::vector<float>& factors, bool divided) {
  Tensor out = host_tensor(DType::f32, from.shape);
  convert(from, out.view());
  float* value = out.view().as<float>();
  for (std::int64_t i = 0; i < from.shape.elements(); ++i) {
    const float factor = factors[static_cast<std::size_t>(i) % factors.size()];
    value[i] = divided ? value[i] / factor : value[i] * factor;
  }
  return out;
}

/// A vector less another.
Tensor less(ConstView from, const std::vector<float>& other) {
  Tensor out = host_tensor(DType::f32, from.shape);
  convert(from, out.view());
  float* value = out.view().as<float>();
  for (std::size_t i = 0; i < other.size(); ++i) value[i] -= other[i];
  return out;
}

/// bias + W centre: a layer's bias where its inputs come without `centre`.
Tensor with_centre(ConstView weight, ConstView bias, const std::vector<float>& centre) {
  Tensor out = host_tensor(DType::f32, bias.shape), row = host_tensor(DType::f32, {weight.columns()});
  convert(bias, out.view());
  for (std::int64_t n = 0; n < weight.rows(); ++n) {
    convert({weight.row_range(n, 1).data, weight.dtype, {weight.columns()}}, row.view());
    const float* w = row.view().as<float>();
    out.view().as<float>()[n] += static_cast<float>(std::inner_product(centre.begin(), centre.end(), w, 0.0));
  }
  return out;
}

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
  /// `pooled`: read by the rows that pooling reads alone.
  void linear(const std::string& name, Linear& out, bool pooled) {
    const LayerChoice& choice = choice_of(name);
    add(name + ".weight", [this, &out, &choice, name, pooled](ConstView v) {
      const Precision precision = precision_of(choice, pooled);
      const Multiplied m = multiplied(name, choice, precision, v);
      out.weight = counted(backend_.prepare_linear(m.weight, precision, {choice.input_scale, m.steps}));
    });
    vector(name + ".bias", out.bias);
  }
  /// A layer that reads what `norm` normalised: both are read together, since a backend may fold the one into the
  /// other.
  void norm_linear(const std::string& norm, const std::string& name, Norm& norm_out, Linear& out, bool pooled) {
    const LayerChoice& choice = choice_of(name);
    with_norm(norm, name, norm_out,
              [this, &out, &choice, name, pooled](ConstView w, ConstView bias, ConstView gamma, ConstView beta) {
                const Precision precision = precision_of(choice, pooled);
                const Multiplied m = multiplied(name, choice, precision, w);
                out.weight = counted(backend_.prepare_norm_linear(m.weight, bias, gamma, beta, precision,
                                                                  {choice.input_scale, m.steps}));
                out.bias = counted(backend_.prepare_vector(bias));
              });
  }
  /// Queries apart from keys and values.
  void norm_q_and_kv(const std::string& norm, const std::string& name, Norm& norm_out, Linear& q, Linear& kv) {
    const LayerChoice& choice = choice_of(name);
    with_norm(norm, name, norm_out,
              [this, &q, &kv, &choice, name](ConstView w, ConstView bias, ConstView gamma, ConstView beta) {
                const std::int64_t n = w.rows() / 3;
                const auto part = [&](std::int64_t first, std::int64_t count, Linear& out, bool pooled) {
                  const auto vector = [&](ConstView v) {
                    return v ? ConstView(v.column_range(first, count).data, v.dtype, {count}) : v;
                  };
                  const ConstView b = vector(bias);
                  const Precision precision = precision_of(choice, pooled);
                  const Multiplied m = multiplied(name, choice, precision, w);
                  out.weight = counted(backend_.prepare_norm_linear(m.weight.row_range(first, count), b, gamma, beta,
                                                                    precision, {choice.input_scale, vector(m.steps)}));
                  out.bias = counted(backend_.prepare_vector(b));
                };
                part(0, n, q, true), part(n, 2 * n, kv, false);
              });
  }
  /// `out` must stay where it is until run() has returned.
  void blocks(const std::string& tower, const TowerConfig& c, std::vector<BlockWeights>& out) {
    out.resize(static_cast<std::size_t>(c.layers));
    for (int i = 0; i < c.layers; ++i) {
      const std::string at = cat(tower, ".blocks.", i, ".");
      BlockWeights& w = out[static_cast<std::size_t>(i)];
      const bool last = i + 1 == c.layers;
      if (!last) {
        norm_linear(at + "ln_1", at + "attn.qkv", w.ln_1, w.qkv, false);
      } else {
        norm_q_and_kv(at + "ln_1", at + "attn.qkv", w.ln_1, w.q, w.kv);
      }
      linear(at + "attn.out", w.out, last);
      norm_linear(at + "ln_2", at + "mlp.fc1", w.ln_2, w.fc1, last);
      linear(at + "mlp.fc2", w.fc2, last);
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
        const auto part = part_of(*task.spec);
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
  WeightReader::Loaded part_of(const WeightSpec& spec) { return part_of(reader_.read(spec), spec); }
  WeightReader::Loaded part_of(WeightReader::Loaded whole, const WeightSpec& spec) const {
    return shard(std::move(whole), spec.shard, options_.tensor_rank, options_.tensor_ranks);
  }
  /// What a layer multiplies with.
  struct Multiplied {
    ConstView weight, steps;  ///< steps: see WeightUse
    WeightReader::Loaded weight_memory, step_memory;
  };
  /// The weight that calibration rounded, where there is one and the layer computes in eight bits; else `own`.
  Multiplied multiplied(const std::string& name, const LayerChoice& choice, Precision precision, ConstView own) const {
    Multiplied out;
    out.weight = own;
    if (!choice.rounded || choice.keep || !is_eight_bit(precision)) return out;
    const RoundedWeight& rounded = *choice.rounded;
    if ((rounded.codes.dtype == DType::f8e4m3) != (precision == Precision::fp8)) {
      throw Error(Code::internal,
                  cat("a weight of ", to_string(rounded.codes.dtype), " is not multiplied in ", to_string(precision)));
    }
    WeightReader::Loaded values, steps;
    values.owned = values_of(rounded), values.view = values.owned.view();
    steps.view = {reinterpret_cast<const std::byte*>(rounded.steps.data()), DType::f32, {values.view.rows()}};
    out.weight_memory = part_of(std::move(values), spec(name + ".weight"));
    out.step_memory = part_of(std::move(steps), spec(name + ".bias"));  // outputs divide as their biases do
    out.weight = out.weight_memory.view, out.steps = out.step_memory.view;
    return out;
  }
  const LayerChoice& choice_of(const std::string& name) const {
    return model::choice_of(options_.eight_bit != nullptr ? *options_.eight_bit : none_, name);
  }
  Precision precision_of(const LayerChoice& choice, bool pooled) const {
    return choice.keep || (pooled && keeps_pooled(precision_)) ? backend_.kept(precision_) : precision_;
  }
  /// Calls f(weight, bias, gamma, beta) of a linear layer and the norm in front of it, which has taken the factors that
  /// were chosen for the layer.
  template <class F>
  void with_norm(const std::string& norm, const std::string& name, Norm& out, F f) {
    const std::array<const WeightSpec*, 3> vectors{&spec(name + ".bias"), &spec(norm + ".weight"),
                                                   &spec(norm + ".bias")};
    for (const WeightSpec* v : vectors) add(v->name, {});
    const LayerChoice& choice = choice_of(name);
    add(name + ".weight", [this, vectors, &out, &choice, f](ConstView weight) {
      {
        auto bias = part_of(*vectors[0]);
        auto gamma = part_of(*vectors[1]), beta = part_of(*vectors[2]);
        WeightReader::Loaded moved;
        const bool chosen = is_eight_bit(precision_) && !choice.keep;
        if (chosen && !choice.centre.empty()) {
          bias.owned = with_centre(weight, bias.view, choice.centre);
          beta.owned = less(beta.view, choice.centre);
          bias.view = bias.owned.view(), beta.view = beta.owned.view();
        }
        if (chosen && !choice.migration.empty()) {
          moved.owned = scaled_columns(weight, choice.migration, false);
          weight = moved.owned.view();
          for (auto* v : {&gamma, &beta}) {
            v->owned = scaled_columns(v->view, choice.migration, true);
            v->view = v->owned.view();
          }
        }
        out.gamma = counted(backend_.prepare_vector(gamma.view));
        out.beta = counted(backend_.prepare_vector(beta.view));
        f(weight, bias.view, gamma.view, beta.view);
      }
      for (const WeightSpec* v : vectors) reader_.release(*v);
    });
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
  const EightBit none_;
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
  const Precision precision = backend.resolve(options.precision);
  const std::size_t element = size_of(backend.types(precision).activation);
  const EightBit none;
  std::size_t bytes = 0;
  for (const WeightSpec& spec : weight_table(config)) {
    const bool vision = spec.name.starts_with("vision."), text = spec.name.starts_with("text.");
    if ((vision && !options.vision) || (text && !options.text) || !(vision || text)) continue;
    if (spec.name == "vision.patch_embed.bias") continue;  // part of the prepared matrix
    const auto elements = static_cast<std::size_t>(shard_shape(spec, options.tensor_ranks).elements());
    // Matrices that blocks multiply by, patches and tokens have the precision's type; everything else is float32.
    std::size_t size = element;
    if (spec.shape.rank() == 1 || spec.name.ends_with("projection") || spec.name.ends_with("position_embedding")) {
      size = sizeof(float);
    } else if (is_eight_bit(precision) && spec.name.find(".blocks.") != std::string::npos) {
      const std::string layer = spec.name.substr(0, spec.name.size() - std::strlen(".weight"));
      const bool kept = choice_of(options.eight_bit != nullptr ? *options.eight_bit : none, layer).keep;
      const int layers = vision ? config.vision.layers : config.text.layers;
      const bool pooled = keeps_pooled(precision) && layer.find(cat(".blocks.", layers - 1, '.')) != std::string::npos;
      if (!kept && pooled && layer.ends_with("qkv")) {  // queries alone
        bytes += elements / 3 * element + elements / 3 * 2;
        continue;
      }
      if (!kept && !pooled) size = 1;
    }
    bytes += elements * size;
  }
  return bytes;
}

}  // namespace tandem::model
