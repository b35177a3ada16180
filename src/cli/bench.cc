// tandem bench: how long a batch takes, what it needs, and the vectors it gave.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

#include "base/clock.h"
#include "base/strings.h"
#include "cli/bench_device.h"
#include "cli/bench_inputs.h"
#include "cli/bench_options.h"
#include "cli/bench_run.h"
#include "cli/bench_stages.h"
#include "cli/bench_sweep.h"
#include "cli/bench_tune.h"
#include "cli/commands.h"
#include "embed/output_file.h"

namespace tandem::cli {
namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

// Random inputs are made before anything is timed; more than this is not kept, the first ones come round again.
constexpr std::size_t kPoolBytes = std::size_t{256} << 20;

What parse_what(std::string_view name) {
  if (name == "image") return What::image;
  if (name == "text") return What::text;
  if (name == "both") return What::both;
  throw UsageError(cat("what '", name, "' is unknown: choose one of image, text, both"));
}

Io parse_io(std::string_view name) {
  if (name == "host") return Io::host;
  if (name == "device") return Io::device;
  throw UsageError(cat("io '", name, "' is unknown: choose one of host, device"));
}

std::vector<int> read_lengths(const BenchOptions& options, int context) {
  std::vector<int> lengths;
  if (options.text_lengths.empty()) {
    lengths.push_back(std::min(options.text_length, context));
  } else {
    for (const auto& line : read_lines(options.text_lengths)) {
      int length = 0;
      std::istringstream words(line);
      while (words >> length) lengths.push_back(length);
      if (!words.eof())
        throw Error(Code::bad_data, cat(options.text_lengths, ": '", line, "' is not a list of lengths"));
    }
    if (lengths.empty()) throw Error(Code::bad_data, cat(options.text_lengths, " holds no lengths: write one a line"));
  }
  for (const int length : lengths) {
    if (length < 2 || length > context) {
      throw Error(Code::invalid_argument,
                  cat("text length ", length, " is out of range: with start and end it is 2 to ", context,
                      " tokens for this model"));
    }
  }
  return lengths;
}

// Highest resident memory of this process so far, as the kernel counts it.
std::size_t peak_memory() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stoull(line.substr(6)) * 1024;
  }
  return 0;
}

std::vector<double> measure(BenchRun& bench, const BenchOptions& options, std::size_t least_runs) {
  // A processor that was idle first has to reach its clock: load it for as long as is timed.
  const auto warm = Clock::now();
  for (int i = 0; i < options.warmup || seconds_since(warm) < options.min_seconds; ++i) bench.run();
  std::vector<double> times;
  const auto begin = Clock::now();
  while (times.size() < least_runs || seconds_since(begin) < options.min_seconds) times.push_back(bench.run());
  return times;
}

Json results(const Engine& engine, const BenchOptions& options, std::size_t batch, std::vector<double> times) {
  const EngineInfo& info = engine.info();
  const KernelChoices choices = engine.kernel_choices();
  const auto n = static_cast<double>(times.size());
  const double mean = std::accumulate(times.begin(), times.end(), 0.0) / n;
  double squares = 0;
  for (const double t : times) squares += (t - mean) * (t - mean);
  std::sort(times.begin(), times.end());
  const std::size_t half = times.size() / 2;
  const double median = times.size() % 2 == 1 ? times[half] : (times[half - 1] + times[half]) / 2;
  const double rate = static_cast<double>(batch) / (mean / 1000);
  const bool images = options.what != What::text, texts = options.what != What::image;
  return {{"model", info.model},
          {"device", info.device},
          {"device_name", info.device_name},
          {"isa", info.isa},
          {"precision", info.precision},
          {"what", name_of(options.what)},
          {"batch", batch},
          {"mean_ms", mean},
          {"std_ms", times.size() > 1 ? std::sqrt(squares / (n - 1)) : 0.0},
          {"median_ms", median},
          {"min_ms", times.front()},
          {"images_per_second", images ? Json(rate) : Json(nullptr)},
          {"texts_per_second", texts ? Json(rate) : Json(nullptr)},
          {"peak_memory_bytes", peak_memory()},
          {"planned_memory_bytes", info.planned_bytes},
          {"device_memory_bytes", info.device_bytes},
          {"arena_bytes", info.arena_bytes},
          {"load_seconds", info.load_seconds},
          {"runs", times.size()},
          {"io", options.io == Io::host ? "host" : "device"},
          {"in_flight", options.in_flight},
          {"weight_bytes", info.weight_bytes},
          {"eight_bit_share", engine.eight_bit_share()},
          {"tuning_file", choices.file.empty() ? Json(nullptr) : Json(choices.file)},
          {"tuned_shapes", choices.measured},
          {"heuristic_shapes", choices.proposed}};
}

std::string for_people(const Json& r) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(2) << r["model"].get<std::string>() << " on "
      << r["device_name"].get<std::string>() << " (" << r["isa"].get<std::string>() << ", "
      << r["precision"].get<std::string>() << "), " << r["what"].get<std::string>() << ", batch " << r["batch"] << ": "
      << r["mean_ms"].get<double>() << " ms ± " << r["std_ms"].get<double>() << " (median "
      << r["median_ms"].get<double>() << ", " << r["runs"] << " runs)";
  out << std::setprecision(1);
  for (const char* rate : {"images_per_second", "texts_per_second"}) {
    if (r[rate].is_null()) continue;
    const std::string_view name = rate;
    out << ", " << r[rate].get<double>() << ' ' << name.substr(0, name.find('_')) << "/s";
  }
  const auto device = r["device_memory_bytes"].get<double>();
  if (device > 0) out << ", device memory " << device / 1e6 << " MB";
  out << ", peak memory " << r["peak_memory_bytes"].get<double>() / 1e6 << " MB, loaded in " << std::setprecision(2)
      << r["load_seconds"].get<double>() << " s\n";
  return out.str();
}

BenchInputs make_inputs(const BenchOptions& options, const model::Config& config, std::size_t batch, std::size_t runs) {
  const bool images = options.what != What::text, texts = options.what != What::image;
  BenchInputs inputs;
  const auto side = static_cast<std::size_t>(config.vision.image_size);
  const std::size_t fitting = std::max<std::size_t>(1, kPoolBytes / (side * side * 3) / batch);
  const std::size_t count = batch * (images ? std::min(runs, fitting) : runs);
  if (images) inputs.images = random_images(count, config.vision.image_size);
  if (texts) inputs.texts = random_texts(count, read_lengths(options, config.text.context_length), config.text);
  return inputs;
}

BenchInputs take_inputs(const BenchOptions& options, const model::Config& config) {
  BenchInputs inputs = read_inputs(options.input, config);
  if (options.what == What::image) inputs.texts.clear();
  if (options.what == What::text) inputs.images.clear();
  if (options.what != What::text && inputs.images.empty())
    throw Error(Code::bad_data, cat(options.input, " holds no pixels"));
  if (options.what != What::image && inputs.texts.empty()) {
    throw Error(Code::bad_data, cat(options.input, " holds no input_ids"));
  }
  return inputs;
}

int run(BenchOptions options, Console& console) {
  if (!options.tune.empty() && options.stages) throw UsageError("--tune and --stages exclude each other: give one");
  if (!options.output.empty() && (options.stages || !options.tune.empty())) {
    throw UsageError(cat("--output would get no vectors from ", options.stages ? "--stages" : "--tune",
                         ": leave one of the two out"));
  }
  if (options.sweep.wanted) {
    if (options.stages || !options.tune.empty() || !options.input.empty() || options.batch > 0) {
      throw UsageError("--sweep makes inputs and batches of its own: leave out --stages, --tune, --input and --batch");
    }
    return sweep(options, open_model(options.common), options.output, console);
  }
  for (const std::string& path : {options.output, options.tune}) {
    if (!path.empty()) embed::check_output_path(path);
  }
  const model::ModelFiles files = open_model(options.common);
  auto runs = static_cast<std::size_t>(options.runs);
  BenchInputs inputs;
  if (!options.input.empty()) inputs = take_inputs(options, files.config);
  const std::size_t given = std::max(inputs.images.size(), inputs.texts.size());
  const std::size_t batch =
      options.batch > 0 ? static_cast<std::size_t>(options.batch) : std::max<std::size_t>(given, 1);
  if (options.input.empty()) inputs = make_inputs(options, files.config, batch, runs);
  // Every given input is embedded at least once within the timed runs.
  runs = std::max(runs, (given + batch - 1) / batch);

  if (!options.tune.empty() || options.stages) {
    (options.stages ? show_stages : tune)(options, files, inputs, batch, console);
    return kOk;
  }

  EngineOptions& engine_options = options.common.engine;
  engine_options.max_batch = static_cast<int>(batch);
  engine_options.max_queue =
      std::max(engine_options.max_queue, 2 * batch * static_cast<std::size_t>(options.in_flight));
  engine_options.load_vision = options.what != What::text;
  engine_options.load_text = options.what != What::image;
  const LoadedEngine engine = load_engine(options.common, console);
  std::optional<BenchPixels> pixels;
  BenchInputs given_inputs;  // as write_outputs() takes them
  if (!options.output.empty() && options.input.empty()) given_inputs = inputs;
  if (options.io == Io::device) pixels.emplace(parse_device(engine->info().device), inputs.images);
  BenchRun bench(*engine, inputs, batch, options.in_flight, options.io);
  std::vector<double> times = measure(bench, options, runs);
  bench.finish();
  if (!options.output.empty()) {
    write_outputs(options.output, bench.images, bench.texts, options.input.empty() ? &given_inputs : nullptr);
  }
  const Json result = results(*engine, options, batch, std::move(times));
  console.print(console.json ? result.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n" : for_people(result));
  return kOk;
}

}  // namespace

const char* name_of(What what) {
  return what == What::image ? "image" : what == What::text ? "text" : "both";
}

Command declare_bench(CLI::App& root) {
  CLI::App* app = root.add_subcommand("bench", "how long a batch takes, without decoding and tokenising");
  auto options = std::make_shared<BenchOptions>();
  Flags flags(*app);
  flags.choice("--what", options->what, parse_what, "image, text, both");
  flags.number("--batch", options->batch, 1, 65536, "items of a batch; default: 1, or all of --input");
  flags.number("--text-length", options->text_length, 2, 1 << 20, "tokens of a text, with start and end")
      ->default_str("16");
  flags.text("--text-lengths", options->text_lengths, "a file of lengths, used in turn");
  flags.number("--warmup", options->warmup, 0, 1 << 30, "batches before the timed ones")->default_str("4");
  flags.number("--runs", options->runs, 1, 1 << 24, "timed batches, at least")->default_str("10");
  flags.seconds("--min-seconds", options->min_seconds, "load for so long, then time for so long");
  flags.choice("--io", options->io, parse_io, "host (pixels and vectors in host memory) or device (in its memory)");
  flags.number("--in-flight", options->in_flight, 1, 64, "batches that the engine has at a time")->default_str("1");
  flags.text(
      "--input", options->input,
      "a .safetensors with pixels uint8 [N,S,S,3] or [N,3,S,S] and input_ids [N,L] (and lengths [N]), instead of "
      "random inputs");
  flags.text("--output", options->output,
             "a .safetensors for image_embeds and text_embeds, a row an input (and random inputs themselves)");
  flags.text("--tune", options->tune,
             "on a GPU: measure the fastest algorithm of every matrix product of these batches, and add them to this "
             "file; nothing else is timed");
  flags.flag("--stages", options->stages, "where the time of a pass goes, instead of how long a batch takes");
  declare_sweep(flags, options->sweep);
  declare_common(*app, options->common);
  app->footer(
      "Example:\n  tandem bench --model random:ViT-B-32 --what image --batch 32 --json\n"
      "  tandem bench --sweep --output sweep --goal throughput --max-latency-ms 50");
  return {app, std::shared_ptr<CommonOptions>(options, &options->common),
          [options](Console& console) { return run(*options, console); }};
}

}  // namespace tandem::cli
