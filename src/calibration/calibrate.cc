#include "calibration/calibrate.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <optional>
#include <set>
#include <utility>

#include "base/strings.h"
#include "calibration/collector.h"
#include "calibration/migration.h"
#include "calibration/round_layers.h"
#include "calibration/switched.h"
#include "tandem/error.h"
#include "verify/agreement.h"

namespace tandem::calibration {
namespace {

using model::EightBit;

/// Of a kind of inputs. What is chosen by the worst one alone is chosen by chance: the worst few tell more.
struct Accuracy : model::CalibratedAccuracy {
  double tail = 1;  ///< the mean cosine of the worst fiftieth
};

struct Accuracies {
  Accuracy images, texts;
};

Accuracy accuracy(const std::vector<float>& got, const std::vector<float>& want, std::size_t dim) {
  std::vector<double> all = verify::cosines(got, want, dim);
  if (all.empty()) return {};
  const auto mean_of = [&](std::size_t count) {
    const auto end = all.begin() + static_cast<std::ptrdiff_t>(count);
    return std::accumulate(all.begin(), end, 0.0) / static_cast<double>(count);
  };
  const double mean = mean_of(all.size());
  std::ranges::sort(all);
  return {{static_cast<std::int64_t>(all.size()), mean, all.front()}, mean_of((all.size() + 49) / 50)};
}

/// Rows of a matrix.
std::vector<float> rows_of(const std::vector<float>& all, const std::vector<std::size_t>& rows, std::size_t dim) {
  std::vector<float> out;
  for (const std::size_t row : rows) {
    const auto first = all.begin() + static_cast<std::ptrdiff_t>(row * dim);
    out.insert(out.end(), first, first + static_cast<std::ptrdiff_t>(dim));
  }
  return out;
}

/// Half the worst rows, half evenly from all.
std::vector<std::size_t> telling(const std::vector<float>& got, const std::vector<float>& want, std::size_t dim,
                                 std::size_t count) {
  const std::size_t all = want.size() / dim;
  std::vector<std::size_t> order(all);
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (count >= all) return order;
  const std::vector<double> cosine = verify::cosines(got, want, dim);
  std::ranges::stable_sort(order, {}, [&](std::size_t i) { return cosine[i]; });
  std::set<std::size_t> chosen(order.begin(), order.begin() + static_cast<std::ptrdiff_t>((count + 1) / 2));
  for (std::size_t i = 0; i < count && chosen.size() < count; ++i) chosen.insert(i * all / count);
  return {chosen.begin(), chosen.end()};
}

class Search {
 public:
  Search(const model::ModelFiles& files, backend::Backend& backend, const Inputs& inputs, const Options& options,
         const Watch& watch)
      : files_(files), backend_(backend), inputs_(inputs), options_(options), watch_(watch) {}

  model::Calibration run();

 private:
  using Layers = std::map<std::string, model::CalibratedLayer>;

  model::Model load(const EightBit& choices, Precision precision) const {
    model::LoadOptions load;
    load.precision = precision, load.eight_bit = &choices;
    load.vision = !inputs_.pictures.empty(), load.text = !inputs_.texts.empty();
    load.threads = options_.threads, load.pool = options_.pool;
    return model::load_model(files_, backend_, load);
  }
  EightBit choices(const Layers& layers) const {
    model::Calibration c;
    c.layers = layers;
    return c.choices(files_.config, true);
  }
  Vectors vectors(backend::Backend& on, const model::Model& model, const Inputs& inputs,
                  const std::string& what) const {
    std::size_t done = 0;
    const std::size_t total = inputs.pictures.size() + inputs.texts.size();
    return embed(on, model, inputs, options_.batch, [&](std::size_t more) {
      if (watch_ && !what.empty()) watch_(what, done += more, total);
    });
  }
  Accuracies accuracies(const Vectors& got) const {
    return {accuracy(got.images, want_.images, dim_), accuracy(got.texts, want_.texts, dim_)};
  }
  /// 2 where the mean, and the worst ones' mean, are just what the targets say; 0 where nothing is lost.
  double loss(const Accuracy& a) const {
    return (1 - a.mean_cosine) / (1 - options_.target_mean) + (1 - a.tail) / (1 - options_.target_worst);
  }
  double loss(const Accuracies& a) const { return loss(a.images) + loss(a.texts); }
  bool reached(const Accuracy& a) const {
    return a.items == 0 || (a.mean_cosine >= options_.target_mean && a.min_cosine >= options_.target_worst);
  }

  void collect();
  /// Offers weights that are rounded for what they are multiplied with.
  void round();
  /// Replaces `layers` and `vectors` where these choices lose less.
  void offer(Layers layers, const std::string& what);
  /// The layers of one tower that are put back.
  std::set<std::string> keep_back(Switched& switched, const model::Model& model, bool images);

  const model::ModelFiles& files_;
  backend::Backend& backend_;
  const Inputs& inputs_;
  const Options& options_;
  const Watch& watch_;
  std::size_t dim_ = 0;
  Vectors want_, got_;
  Layers layers_;
  std::optional<double> loss_;
  std::map<std::string, LayerInputs> seen_;
};

void Search::collect() {
  const model::Model model = load({}, Precision::fp32);
  Collector collector(backend_, model, options_.precision);
  want_ = vectors(collector, model, inputs_, "what layers read in fp32");
  seen_ = collector.layers();
}

void Search::offer(Layers layers, const std::string& what) {
  const model::Model model = load(choices(layers), options_.precision);
  Vectors got = vectors(backend_, model, inputs_, what);
  const double lost = loss(accuracies(got));
  if (loss_ && *loss_ <= lost) return;
  loss_ = lost, got_ = std::move(got), layers_ = std::move(layers);
}

void Search::round() {
  std::set<std::string> eight;
  {
    const EightBit choices_now = choices(layers_);
    const model::Model model = load(choices_now, options_.precision);
    for (const auto& [weight, product] : products_of(model, backend_)) {
      if (weight->has_scales()) eight.insert(product.layer);
    }
  }
  std::erase_if(eight, [&](const std::string& layer) { return !seen_.contains(layer); });
  std::map<std::string, double> rows;
  for (const auto& [layer, seen] : seen_) rows[layer] = seen.row_count;
  RoundingOptions how;
  how.precision = options_.precision, how.batch = options_.batch;
  how.threads = options_.threads, how.pool = options_.pool;
  const model::Model model = load({}, Precision::fp32);
  Layers rounded = layers_;
  for (auto& [layer, weight] : round_layers(files_, backend_, model, inputs_, eight, layers_, rows, how, watch_)) {
    rounded[layer].choice.rounded = std::move(weight), rounded[layer].rounded = true;
  }
  offer(std::move(rounded), "eight bits, weights rounded for their inputs");
}

std::set<std::string> Search::keep_back(Switched& switched, const model::Model& model, bool images) {
  const char* tower = images ? "vision." : "text.";
  const char* whose = images ? "pictures" : "texts";
  const auto& want = images ? want_.images : want_.texts;
  const auto sample = telling(images ? got_.images : got_.texts, want, dim_, options_.sensitivity_samples);
  Inputs some, all;
  for (const std::size_t i : sample) {
    if (images) some.pictures.push_back(inputs_.pictures[i]);
    if (!images) some.texts.push_back(inputs_.texts[i]);
  }
  if (images) all.pictures = inputs_.pictures;
  if (!images) all.texts = inputs_.texts;
  const std::vector<float> want_some = rows_of(want, sample, dim_);
  const auto measure = [&](const std::set<std::string>& back, const Inputs& inputs, const std::vector<float>& right) {
    switched.take(back);
    const Vectors got = vectors(switched, model, inputs, "");
    return accuracy(images ? got.images : got.texts, right, dim_);
  };

  struct Candidate {
    std::string layer;
    double cost, gain;
  };
  std::vector<Candidate> candidates;
  double work = 0;
  for (const auto& [layer, seen] : seen_) {
    if (layer.starts_with(tower)) candidates.push_back({layer, seen.multiply_adds, 0}), work += seen.multiply_adds;
  }
  const double begin = loss(measure({}, some, want_some));
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    candidates[i].cost /= work;
    candidates[i].gain = begin - loss(measure({candidates[i].layer}, some, want_some));
    if (watch_) watch_(cat("layers put back in turn, ", whose), i + 1, candidates.size());
  }
  // What gains nothing to speak of stays in eight bits.
  std::erase_if(candidates, [&](const Candidate& c) { return c.gain < 0.01 * begin || c.cost > options_.most_kept; });

  struct Found {
    std::set<std::string> back;
    double cost = 0, loss = 0;
    bool reached = false;
  };
  const auto greedy = [&](auto worth) {
    std::ranges::stable_sort(candidates, std::greater<>(), worth);
    Found found;
    found.loss = begin;
    for (std::size_t i = 0; i < candidates.size() && !found.reached; ++i) {
      const Candidate& c = candidates[i];
      if (watch_) watch_(cat("layers to keep back, ", whose), i + 1, candidates.size());
      if (found.cost + c.cost > options_.most_kept) continue;
      auto back = found.back;
      back.insert(c.layer);
      const Accuracy a = measure(back, some, want_some);
      if (loss(a) >= found.loss) continue;
      found.back = std::move(back), found.cost += c.cost, found.loss = loss(a);
      // The sample has the worst of all: where it fails all do.
      if (a.min_cosine >= options_.target_worst) found.reached = reached(measure(found.back, all, want));
    }
    return found;
  };
  // By what a layer gains, and by what it gains for its work: neither is always better.
  const Found by_gain = greedy([](const Candidate& c) { return c.gain; });
  const Found by_price = greedy([](const Candidate& c) { return c.gain / std::max(c.cost, 1e-6); });
  if (by_gain.reached != by_price.reached) return by_gain.reached ? by_gain.back : by_price.back;
  if (by_gain.reached) return by_price.cost <= by_gain.cost ? by_price.back : by_gain.back;
  return by_price.loss <= by_gain.loss ? by_price.back : by_gain.back;
}

model::Calibration Search::run() {
  dim_ = static_cast<std::size_t>(files_.config.embed_dim);
  const auto source = files_.open_weights();
  model::Calibration out;
  out.model_hash = source->hash(), out.architecture = files_.config.architecture, out.precision = options_.precision;
  collect();

  offer({}, "eight bits, nothing chosen");
  const Accuracies plain = accuracies(got_);
  Layers rows, ranges;
  bool any = false;
  for (const auto& [layer, seen] : seen_) {
    model::CalibratedLayer& to = ranges[layer];
    to.range = "row", to.error = seen.rows.error();
    rows[layer] = to;
    if (!layer.ends_with("out") && !layer.ends_with("fc2")) continue;
    const Range range =
        choose_range(options_.precision, seen.values, options_.precision == Precision::int8 ? &seen.rows : nullptr);
    to.choice.input_scale = range.step, to.range = range.name, to.error = range.error;
    any = any || range.step > 0;
  }
  layers_ = std::move(rows);
  // A GPU's fp8 has no scale per row where no norm stands in front: without a range its scale is a bound.
  if (options_.precision == Precision::fp8) loss_.reset();
  if (any) offer(std::move(ranges), "eight bits, ranges chosen");
  Layers centred = layers_;
  for (auto& [layer, to] : centred) {
    if (!layer.ends_with("qkv") && !layer.ends_with("fc1")) continue;
    const LayerInputs& seen = seen_.at(layer);
    for (const double sum : seen.sums) to.choice.centre.push_back(static_cast<float>(sum / seen.row_count));
  }
  offer(std::move(centred), "eight bits, averages apart");
  if (options_.migration > 0) {
    Layers migrated = layers_;
    for (auto& [layer, factors] : migrate(files_.config, *source, seen_, options_.migration)) {
      migrated[layer].choice.migration = std::move(factors);
    }
    offer(std::move(migrated), "eight bits, migrated");
  }

  if (options_.round) round();

  Accuracies now = accuracies(got_);
  if (!reached(now.images) || !reached(now.texts)) {
    const EightBit choices_now = choices(layers_);
    const model::Model model = load(choices_now, options_.precision);
    const model::Model other = load(EightBit(files_.config, {"*"}), options_.precision);
    Switched switched(backend_, model, other);
    std::set<std::string> back;
    if (!reached(now.images)) back.merge(keep_back(switched, model, true));
    if (!reached(now.texts)) back.merge(keep_back(switched, model, false));
    switched.take(back);
    now = accuracies(vectors(switched, model, inputs_, "eight bits, layers kept back"));
    for (const std::string& layer : back) {
      layers_[layer].choice = {.keep = true}, layers_[layer].rounded = false;
    }
  }
  double work = 0, kept = 0;
  for (const auto& [layer, seen] : seen_) {
    work += seen.multiply_adds;
    if (layers_[layer].choice.keep) kept += seen.multiply_adds;
  }
  out.eight_bit_share = work > 0 ? 1 - kept / work : 1;
  out.images = now.images, out.texts = now.texts, out.plain_images = plain.images, out.plain_texts = plain.texts;
  out.reached = reached(now.images) && reached(now.texts);
  out.layers = std::move(layers_);
  return out;
}

void check(const Inputs& inputs, const Options& o) {
  const auto refuse = [](const std::string& message) { throw Error(Code::invalid_argument, message); };
  if (!model::is_eight_bit(o.precision)) {
    refuse(cat("int8 and fp8 are calibrated, and the precision is ", to_string(o.precision)));
  }
  if (inputs.pictures.empty() && inputs.texts.empty()) refuse("there is nothing to calibrate with: give pictures");
  const auto within = [&](const char* what, double value, double least, double most) {
    if (!(value >= least && value <= most)) {
      refuse(cat(what, " is ", value, ": give a number from ", least, " to ", most));
    }
  };
  within("the migration's alpha", o.migration, 0, 1), within("the share that may be kept back", o.most_kept, 0, 1);
  within("the mean cosine to reach", o.target_mean, -1, 0.999999);
  within("the worst cosine to reach", o.target_worst, -1, 0.999999);
  if (o.batch == 0 || o.sensitivity_samples == 0) refuse("a batch and the sensitivity's sample need one input or more");
}

}  // namespace

model::Calibration calibrate(const model::ModelFiles& files, backend::Backend& backend, const Inputs& inputs,
                             const Options& options, const Watch& watch) {
  check(inputs, options);
  return Search(files, backend, inputs, options, watch).run();
}

}  // namespace tandem::calibration
