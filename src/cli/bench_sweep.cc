#include "cli/bench_sweep.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/clock.h"
#include "base/strings.h"
#include "cli/bench_run.h"
#include "cli/bench_stages.h"
#include "cli/modes.h"
#include "cli/progress.h"
#include "cli/sweep.h"
#include "embed/output_file.h"
#include "engine/backends.h"
#include "model/eight_bit.h"
#include "model/towers.h"
#include "samples/pictures.h"
#include "verify/agreement.h"

namespace tandem::cli {
namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

constexpr std::size_t kAccuracyItems = 64, kLeastAccuracyItems = 4;
constexpr double kAccuracyShare = 0.08;  // of the time, for the vectors in fp32
constexpr std::size_t kInputBytes = std::size_t{64} << 20;
constexpr std::size_t kLeastRuns = 3, kMostRuns = 2000;
constexpr int kStagesBatch = 8;

/// Random inputs for one batch size, different in every batch as far as they fit.
BenchInputs inputs_for(What what, const model::Config& config, std::size_t batch, int text_length) {
  BenchInputs inputs;
  const auto side = static_cast<std::size_t>(config.vision.image_size);
  const std::size_t batches = std::clamp<std::size_t>(kInputBytes / (side * side * 3) / batch, 1, 8);
  if (what != What::text) inputs.images = random_images(batch * batches, config.vision.image_size);
  if (what != What::image) {
    inputs.texts = random_texts(batch * batches, {std::min(text_length, config.text.context_length)}, config.text);
  }
  return inputs;
}

/// Vectors of a few inputs, for the cosines.
struct Vectors {
  std::vector<float> images, texts;
};

class Sweeper {
 public:
  Sweeper(const BenchOptions& options, const model::ModelFiles& files, Console& console)
      : options_(options), files_(files), console_(console), begin_(Clock::now()) {
    samples::PicturesOptions pictures;
    pictures.count = kAccuracyItems, pictures.side = files.config.vision.image_size;
    pictures_ = samples::open_random(pictures);
    std::vector<int> lengths;
    for (int n = 4; n <= std::min(24, files.config.text.context_length); ++n) lengths.push_back(n);
    texts_ = random_texts(kAccuracyItems, lengths, files.config.text);
  }

  Sweep run() {
    Sweep sweep;
    sweep.model = options_.common.engine.model, sweep.what = name_of(options_.what);
    const std::time_t now = std::time(nullptr);
    std::tm date{};
    char text[32];
    gmtime_r(&now, &date);
    sweep.machine_date = std::string(text, std::strftime(text, sizeof text, "%Y-%m-%d", &date));
    std::vector<std::pair<DeviceId, Precision>> plan;
    for (const DeviceId device : devices()) {
      for (const Precision precision : precisions(device)) plan.emplace_back(device, precision);
    }
    DeviceId measured;
    Progress progress(console_, "precisions", plan.size());
    for (std::size_t i = 0; i < plan.size(); ++i) {
      const auto [device, precision] = plan[i];
      // What is left of the time, divided by what is left to do.
      const double left = std::max(options_.sweep.seconds - seconds_since(begin_), 0.0);
      const double until = seconds_since(begin_) + left / static_cast<double>(plan.size() - i);
      const bool first = reference_.empty() || !(device == measured);
      measured = device;
      sweep.runs.push_back(one(device, precision, until, first));
      progress.update(i + 1, 0);
    }
    sweep.accuracy_items = static_cast<int>(items_);
    sweep.seconds = seconds_since(begin_);
    for (const Mode& mode : modes()) sweep.modes.push_back(describe(mode));
    return sweep;
  }

 private:
  std::vector<DeviceId> devices() const {
    if (!options_.common.engine.devices.empty()) return options_.common.engine.devices;
    std::vector<DeviceId> out;  // one of each kind
    for (const std::string& name : engine::available_devices()) {
      const DeviceId device = parse_device(name);
      if (out.empty() || out.back().kind != device.kind) out.push_back(device);
    }
    return out;
  }

  /// fp32 first: the others are compared with it.
  std::vector<Precision> precisions(DeviceId device) const {
    const auto backend = engine::make_backend(device, options_.common.context);
    std::vector<Precision> out;
    for (const Precision p :
         {Precision::fp32, Precision::tf32, Precision::fp16, Precision::bf16, Precision::int8, Precision::fp8}) {
      const auto& wanted = options_.sweep.precisions;
      if (!wanted.empty() && std::find(wanted.begin(), wanted.end(), p) == wanted.end()) continue;
      try {
        out.push_back(backend->resolve(p));
      } catch (const Error& e) {
        if (!wanted.empty()) console_.say(Verbosity::warn, e.what());
      }
    }
    return out;
  }

  CommonOptions common_for(DeviceId device, Precision precision, int most) const {
    CommonOptions common = options_.common;
    EngineOptions& e = common.engine;
    e.device = device, e.devices.clear(), e.precision = precision;
    if (!model::is_eight_bit(precision)) e.keep.clear(), e.calibration.clear();
    e.max_batch = most;
    e.max_queue = std::max(e.max_queue, 4 * static_cast<std::size_t>(most));
    e.load_vision = options_.what != What::text, e.load_text = options_.what != What::image;
    return common;
  }

  /// Vectors of `count` inputs; 0: as many as a share of the time allows, which is counted in items_.
  Vectors embed(Engine& engine, std::size_t count) {
    const auto begin = Clock::now();
    Vectors out;
    const std::size_t most = count > 0 ? count : kAccuracyItems;
    std::size_t done = 0;
    for (; done < most; done += kLeastAccuracyItems) {
      if (count == 0 && done > 0 && seconds_since(begin) > kAccuracyShare * options_.sweep.seconds) break;
      Request request;
      for (std::size_t i = done; i < done + kLeastAccuracyItems; ++i) {
        if (options_.what != What::text) request.images.push_back(pictures_->open(i));
        if (options_.what != What::image) request.texts.push_back(texts_[i]);
      }
      const Response response = engine.wait(engine.submit(std::move(request)));
      for (const auto& [from, to] : {std::pair{&response.images, &out.images}, {&response.texts, &out.texts}}) {
        for (const Embedding& e : *from) {
          if (e.error) throw Error(e.error->code, e.error->message);
          to->insert(to->end(), e.values.begin(), e.values.end());
        }
      }
    }
    if (count == 0) items_ = done;
    return out;
  }

  /// Where fp32 is not itself among the precisions, a model of its own gives the vectors to compare with.
  void find_reference(DeviceId device, Engine& engine) {
    if (engine.info().precision == "fp32") {
      reference_ = {embed(engine, 0)};
    } else {
      reference_ = {embed(*load_engine(common_for(device, Precision::fp32, kStagesBatch), console_, true), 0)};
    }
  }

  void compare(Engine& engine, SweepRun& run) {
    const auto dim = static_cast<std::size_t>(engine.info().embed_dim);
    const Vectors got = engine.info().precision == "fp32" ? reference_.front() : embed(engine, items_);
    double sum = 0;
    int kinds = 0;
    for (const auto& [ours, theirs] :
         {std::pair{&got.images, &reference_.front().images}, {&got.texts, &reference_.front().texts}}) {
      if (ours->empty()) continue;
      const auto close = verify::closeness(*ours, *theirs, dim);
      sum += close.mean_cosine, ++kinds;
      run.min_cosine = std::min(run.min_cosine, close.min_cosine);
    }
    run.mean_cosine = sum / kinds;
  }

  std::size_t memory(const backend::Backend& backend, Precision precision, int batch, std::size_t weights) const {
    const model::Config& c = files_.config;
    std::size_t arena = 0;
    if (options_.what != What::text) {
      arena = model::plan_images(backend, precision, c.vision, c.embed_dim, batch);
      arena += model::backend_bytes(backend, precision, c.vision, batch * c.vision.tokens());
      arena += static_cast<std::size_t>(batch) * static_cast<std::size_t>(c.vision.image_size) *
               static_cast<std::size_t>(c.vision.image_size) * 3;
    }
    if (options_.what != What::image) {
      const std::int64_t rows = std::int64_t{batch} * std::min(options_.text_length, c.text.context_length);
      const std::size_t texts = model::plan_texts(backend, precision, c.text, c.embed_dim, batch, rows) +
                                model::backend_bytes(backend, precision, c.text, rows);
      // A device beside the host computes both towers at a time.
      arena = backend.stream() != nullptr ? arena + texts : std::max(arena, texts);
    }
    return weights + arena;
  }

  SweepRun one(DeviceId device, Precision precision, double until, bool first) {
    SweepRun run;
    run.device = to_string(device), run.precision = to_string(precision);
    const int most = options_.sweep.batches.back();
    const auto backend = engine::make_backend(device, options_.common.context);
    {
      const LoadedEngine engine = load_engine(common_for(device, precision, most), console_, !reference_.empty());
      const EngineInfo& info = engine->info();
      run.device = info.device, run.device_name = info.device_name, run.isa = info.isa, run.precision = info.precision;
      run.weight_bytes = info.weight_bytes, run.load_seconds = info.load_seconds;
      if (first) find_reference(device, *engine);
      compare(*engine, run);
      double expected = 0;  // milliseconds of the next batch
      for (std::size_t i = 0; i < options_.sweep.batches.size(); ++i) {
        const int batch = options_.sweep.batches[i];
        const double left = until - seconds_since(begin_);
        if (i > 0 && expected / 1000 * static_cast<double>(kLeastRuns + 1) > left) {
          run.left_out = cat("batches from ", batch, " were left out: --sweep-seconds is over");
          break;
        }
        const double share = left / static_cast<double>(options_.sweep.batches.size() - i + 1);
        run.points.push_back(measure(*engine, batch, share));
        SweepPoint& point = run.points.back();
        point.memory_bytes = memory(*backend, precision, batch, run.weight_bytes);
        const int next = i + 1 < options_.sweep.batches.size() ? options_.sweep.batches[i + 1] : batch;
        expected = point.at(0.5) * next / batch;
      }
      run.eight_bit_share = engine->eight_bit_share();
    }
    stages(device, precision, run);
    return run;
  }

  SweepPoint measure(Engine& engine, int batch, double seconds) const {
    const auto items = static_cast<std::size_t>(batch);
    const BenchInputs inputs = inputs_for(options_.what, files_.config, items, options_.text_length);
    BenchRun bench(engine, inputs, items, options_.in_flight, Io::host);
    SweepPoint point;
    point.batch = batch;
    const auto begin = Clock::now();
    double slowest = bench.run();  // not counted; a recorded pass is recorded when it comes again
    for (int i = 0; i < 3 && seconds_since(begin) < seconds / 4; ++i) slowest = bench.run();
    while (point.times.size() < kMostRuns) {
      const double spent = seconds_since(begin) + slowest / 1000;
      if (point.times.size() >= kLeastRuns && spent > seconds) break;
      point.times.push_back(slowest = bench.run());
    }
    bench.finish();
    point.mean_ms =
        std::accumulate(point.times.begin(), point.times.end(), 0.0) / static_cast<double>(point.times.size());
    std::sort(point.times.begin(), point.times.end());
    return point;
  }

  /// A few passes, step by step: of the batch that gives most, or as much of it as is quick.
  void stages(DeviceId device, Precision precision, SweepRun& run) {
    BenchOptions options = options_;
    options.common = common_for(device, precision, kStagesBatch);
    run.stages_batch = std::min(kStagesBatch, run.points.back().batch);
    options.warmup = 1, options.runs = 3;
    const auto batch = static_cast<std::size_t>(run.stages_batch);
    const BenchInputs inputs = inputs_for(options_.what, files_.config, batch, options_.text_length);
    const Json found = measure_stages(options, files_, inputs, batch, console_);
    for (const char* tower : {"image", "text"}) {
      if (!found.contains(tower)) continue;
      for (const Json& stage : found[tower]["stages"]) {
        const std::string name = stage["stage"];
        run.stages.emplace_back(options_.what == What::both ? cat(tower, ": ", name) : name, stage["ms"]);
      }
    }
  }

  SweepMode describe(const Mode& mode) const {
    const ModeSettings settings = mode_settings(mode.name, options_.common.engine.device, options_.common.context);
    const DeviceId device = settings.device.value_or(options_.common.engine.device);
    const auto backend = engine::make_backend(device, options_.common.context);
    return {std::string(mode.name), std::string(mode.help), to_string(backend->device()),
            std::string(to_string(backend->resolve(settings.precision))), settings.flags()};
  }

  const BenchOptions& options_;
  const model::ModelFiles& files_;
  Console& console_;
  Clock::time_point begin_;
  std::unique_ptr<samples::Pictures> pictures_;
  std::vector<TextInput> texts_;
  std::vector<Vectors> reference_;  ///< in fp32 on the device under way; one, or none yet
  std::size_t items_ = 0;
};

void write(const std::filesystem::path& path, const std::string& text) {
  embed::OutputFile file(path.string());
  file.append(text);
  file.commit();
}

}  // namespace

void declare_sweep(Flags& flags, SweepOptions& o) {
  constexpr const char* kGroup = "Sweep";
  flags
      .flag("--sweep", o.wanted,
            "every precision at every batch: a table, plots, and what to use; --output is a folder")
      ->group(kGroup);
  flags
      .single(
          "--precisions",
          [&o](const std::string& words) {
            o.precisions.clear();
            for (const std::string& word : split_list(words)) o.precisions.push_back(parse_precision(word));
          },
          "of the sweep, with commas between them; default: all that the device computes")
      ->group(kGroup);
  flags
      .single(
          "--batches",
          [&o](const std::string& words) {
            o.batches.clear();
            for (const std::string& word : split_list(words)) {
              const bool digits = !word.empty() && word.size() < 6 && word.find_first_not_of("0123456789") == word.npos;
              const int batch = digits ? std::stoi(word) : 0;
              if (batch < 1 || batch > 65536) {
                throw UsageError(cat("--batches '", word, "' is no batch size: give numbers from 1 to 65536"));
              }
              o.batches.push_back(batch);
            }
            std::sort(o.batches.begin(), o.batches.end());
            o.batches.erase(std::unique(o.batches.begin(), o.batches.end()), o.batches.end());
            if (o.batches.empty()) throw UsageError("--batches is empty: give numbers with commas between them");
          },
          "of the sweep; default: 1, 2, 4 … 256")
      ->group(kGroup);
  flags.seconds("--sweep-seconds", o.seconds, "about how long the sweep may take; large batches are left out")
      ->default_str("60")
      ->group(kGroup);
  flags.choice("--goal", o.goal, parse_goal, "what is recommended first: latency, throughput, memory")->group(kGroup);
  flags.real("--max-latency-ms", o.most_ms, 0, 1e9, "recommend only what 95 of 100 batches keep; 0: anything")
      ->default_str("0")
      ->group(kGroup);
  flags.real("--min-cosine", o.least_cosine, -1, 1, "recommend only what is so near to fp32 at worst")
      ->default_str("0.99")
      ->group(kGroup);
}

int sweep(const BenchOptions& options, const model::ModelFiles& files, const std::string& folder, Console& console) {
  if (!folder.empty()) {
    std::error_code problem;
    std::filesystem::create_directories(folder, problem);
    if (problem || !std::filesystem::is_directory(folder)) {
      throw Error(
          Code::io_error,
          cat("--output ", folder, " cannot be made a folder: ", problem ? problem.message() : "a file has that name"));
    }
    embed::check_output_path((std::filesystem::path(folder) / "sweep.json").string());
  }
  const Sweep found = Sweeper(options, files, console).run();
  if (found.runs.empty()) {
    throw Error(Code::unsupported,
                "none of --precisions is computed on this device: leave the flag out to see which are");
  }
  const SweepLimits limits{options.sweep.goal, options.sweep.most_ms, options.sweep.least_cosine};
  const Json json = to_json(found, limits);
  if (!folder.empty()) {
    const std::filesystem::path to = folder;
    std::vector<std::string> plots;
    for (const auto& [name, svg] : to_plots(found)) {
      write(to / name, svg);
      plots.push_back(name);
    }
    write(to / "sweep.md", to_markdown(found, limits, plots));
    write(to / "sweep.json", json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
  }
  if (console.json) {
    console.print(json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
    return kOk;
  }
  console.print(to_markdown(found, limits, {}));
  const Recommendation r = recommend(found, limits.goal, limits.most_ms, limits.least_cosine);
  if (r.run != nullptr) {
    console.print(cat("\nFor ", name_of(limits.goal), ": tandem serve --model ", found.model, ' ', r.flags, '\n'));
  }
  return kOk;
}

}  // namespace tandem::cli
