#include "calibration/round_layers.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

#include "base/parallel_for.h"
#include "calibration/rounding.h"
#include "calibration/watching_backend.h"
#include "model/weights.h"

namespace tandem::calibration {
namespace {

constexpr std::size_t kEvery = 8;          // of the inputs one is held out
constexpr std::size_t kLeastRows = 2048;   // of a layer that are summed, where there are so many
constexpr std::size_t kMostHeldOut = 512;  // rows of a layer

struct Seen {
  std::vector<float> gram, held_out;
  std::size_t every = 1;             ///< of the rows one is taken
  std::size_t summed = 0, held = 0;  ///< rows met
  const model::LayerChoice* choice = nullptr;
};

class GramCollector final : public WatchingBackend {
 public:
  GramCollector(backend::Backend& to, const model::Model& model, std::map<std::string, Seen>& layers)
      : WatchingBackend(to, model), layers_(layers) {}
  /// Of what comes from now on.
  void use(bool sum, bool hold) { sum_ = sum, hold_ = hold; }

 private:
  bool wants(const Product& product) const override {
    // The queries of a last block read some of the rows that its keys and values read.
    return layers_.contains(product.layer) && std::strcmp(product.part, "q") != 0;
  }
  void note(const Product& product, std::vector<float> values, std::int64_t rows, std::int64_t) override {
    Seen& layer = layers_.at(product.layer);
    const std::size_t width = values.size() / static_cast<std::size_t>(rows);
    const model::LayerChoice& c = *layer.choice;
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (!c.centre.empty()) values[i] -= c.centre[i % width];
      if (!c.migration.empty()) values[i] /= c.migration[i % width];
    }
    if (hold_) {
      const std::size_t every = std::max<std::size_t>(1, layer.every / kEvery);
      take(values, width, every, layer.held, [&](auto first, auto last) {
        if (layer.held_out.size() < kMostHeldOut * width) layer.held_out.insert(layer.held_out.end(), first, last);
      });
    }
    if (!sum_) return;
    std::vector<float> some;
    take(values, width, layer.every, layer.summed,
         [&](auto first, auto last) { some.insert(some.end(), first, last); });
    if (!some.empty()) add_to_gram(some, width, layer.gram);
  }
  template <class Take>
  static void take(const std::vector<float>& values, std::size_t width, std::size_t every, std::size_t& met, Take one) {
    for (std::size_t at = 0; at < values.size(); at += width, ++met) {
      const auto first = values.begin() + static_cast<std::ptrdiff_t>(at);
      if (met % every == 0) one(first, first + static_cast<std::ptrdiff_t>(width));
    }
  }

  std::map<std::string, Seen>& layers_;
  bool sum_ = true, hold_ = false;
};

/// Apart: the inputs to sum, and those that are held out.
template <class Kind>
void divide(const std::vector<Kind>& all, std::vector<Kind>& sum, std::vector<Kind>& hold) {
  for (std::size_t i = 0; i < all.size(); ++i) {
    const bool few = all.size() < kEvery;
    if (few || i % kEvery == kEvery - 1) hold.push_back(all[i]);
    if (few || i % kEvery != kEvery - 1) sum.push_back(all[i]);
  }
}

/// Layers whose sums are held together, one list a pass.
std::vector<std::vector<std::string>> groups(const model::Config& config, const std::set<std::string>& names,
                                             std::size_t memory) {
  std::vector<std::vector<std::string>> out;
  std::size_t bytes = 0;
  for (const std::string& name : names) {
    const auto inputs = static_cast<std::size_t>(layer_shape(config, name).columns());
    const std::size_t more = inputs * inputs * sizeof(float);
    if (out.empty() || bytes + more > memory) out.emplace_back(), bytes = 0;
    out.back().push_back(name), bytes += more;
  }
  return out;
}

/// The weight that a layer's choice makes of the model's own, f32 [outputs, inputs].
std::vector<float> weight_of(model::WeightReader& reader, const model::WeightSpec& spec,
                             const model::LayerChoice& choice) {
  std::vector<float> out(static_cast<std::size_t>(spec.shape.elements()));
  convert(reader.read(spec).view, {reinterpret_cast<std::byte*>(out.data()), DType::f32, spec.shape});
  reader.release(spec);
  for (std::size_t i = 0; i < out.size() && !choice.migration.empty(); ++i) {
    out[i] *= choice.migration[i % choice.migration.size()];
  }
  return out;
}

}  // namespace

model::RoundedWeights round_layers(const model::ModelFiles& files, backend::Backend& backend, const model::Model& model,
                                   const Inputs& inputs, const std::set<std::string>& names,
                                   const std::map<std::string, model::CalibratedLayer>& layers,
                                   const std::map<std::string, double>& row_counts, const RoundingOptions& options,
                                   const std::function<void(const std::string&, std::size_t, std::size_t)>& watch) {
  Inputs sum, hold;
  divide(inputs.pictures, sum.pictures, hold.pictures), divide(inputs.texts, sum.texts, hold.texts);
  const auto source = files.open_weights();
  model::WeightReader reader(files.config, *source);
  std::map<std::string, model::WeightSpec> specs;
  for (model::WeightSpec& spec : weight_table(files.config)) {
    const std::string layer = layer_of(spec.name);
    if (names.contains(layer)) specs.emplace(layer, std::move(spec));
  }

  model::RoundedWeights out;
  std::mutex mutex;
  std::size_t done = 0;
  for (const auto& group : groups(files.config, names, options.memory)) {
    std::map<std::string, Seen> seen;
    bool pictures = false, texts = false;
    for (const std::string& name : group) {
      const auto columns = static_cast<double>(layer_shape(files.config, name).columns());
      Seen& layer = seen[name];
      layer.choice = &layers.at(name).choice;
      const double wanted = std::max<double>(kLeastRows, 4 * columns);
      layer.every = std::max<std::size_t>(1, static_cast<std::size_t>(row_counts.at(name) / wanted));
      (name.starts_with("vision.") ? pictures : texts) = true;
    }
    GramCollector collector(backend, model, seen);
    std::size_t inputs_done = 0, inputs_all = 0;
    for (const auto* some : {&sum, &hold}) {
      inputs_all += (pictures ? some->pictures.size() : 0) + (texts ? some->texts.size() : 0);
    }
    const auto step = [&](std::size_t more) {
      if (watch) watch("what weights are multiplied with", inputs_done += more, inputs_all);
    };
    for (const bool held : {false, true}) {
      const Inputs& some = held ? hold : sum;
      collector.use(!held, held);
      embed(collector, model,
            {pictures ? some.pictures : decltype(some.pictures)(), texts ? some.texts : decltype(some.texts)()},
            options.batch, step);
    }
    parallel_for(options.pool, options.threads - 1, group.size(), [&](std::size_t i) {
      const std::string& name = group[i];
      Seen& layer = seen.at(name);
      const std::size_t outputs = static_cast<std::size_t>(layer_shape(files.config, name).rows());
      std::shared_ptr<const model::RoundedWeight> better;
      if (!layer.gram.empty() && !layer.held_out.empty()) {
        const std::vector<float> own = weight_of(reader, specs.at(name), *layer.choice);
        complete_gram(layer.gram, own.size() / outputs);
        Rounding found = round_for_inputs(options.precision, own, outputs, layer.gram);
        layer.gram = {};
        const Rounding nearest = round_to_nearest(options.precision, own, outputs);
        if (output_error(own, found.values, outputs, layer.held_out) <
            output_error(own, nearest.values, outputs, layer.held_out)) {
          better = model::make_rounded(options.precision, found.values, std::move(found.steps));
        }
      }
      const std::lock_guard lock(mutex);
      if (better) out[name] = std::move(better);
      if (watch) watch("weights rounded", ++done, names.size());
    });
  }
  return out;
}

}  // namespace tandem::calibration
