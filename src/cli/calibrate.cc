// tandem calibrate: scales and kept layers for a model's eight-bit precisions, written beside it.
#include "calibration/calibrate.h"

#include <filesystem>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "base/strings.h"
#include "base/thread_pool.h"
#include "calibration/simulated_fp8.h"
#include "cli/calibrate_inputs.h"
#include "cli/commands.h"
#include "cli/progress.h"
#include "cli/write_calibration.h"
#include "embed/output_file.h"
#include "engine/backends.h"

namespace tandem::cli {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  CommonOptions common;
  CalibrationData data;
  calibration::Options how;
  std::string output;
  int batch = 8, sensitivity_samples = 32;
  bool nearest = false;
};

/// One line a stage.
class Stages {
 public:
  Stages(Console& console, const StopScope& stop) : console_(console), stop_(stop) {}
  struct Stopped {};
  void operator()(const std::string& what, std::size_t done, std::size_t total) {
    if (stop_.flag()->load()) throw Stopped();
    if (what != what_) progress_.emplace(console_, what, total), what_ = what;
    progress_->update(done, 0);
  }

 private:
  Console& console_;
  const StopScope& stop_;
  std::string what_;
  std::optional<Progress> progress_;
};

Json accuracy_json(const model::CalibratedAccuracy& a) {
  return {{"items", a.items}, {"mean_cosine", a.mean_cosine}, {"min_cosine", a.min_cosine}};
}

std::vector<std::string> kept(const model::Calibration& c) {
  std::vector<std::string> names;
  for (const auto& [name, layer] : c.layers) {
    if (layer.choice.keep) names.push_back(name);
  }
  return names;
}

std::string for_people(const model::Calibration& c, const std::string& file) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(5) << to_string(c.precision) << " of " << c.architecture << ", on " << c.data
      << "\n          items   cosine mean    worst   (nothing chosen: mean, worst)\n";
  const auto line = [&](const char* what, const model::CalibratedAccuracy& now,
                        const model::CalibratedAccuracy& plain) {
    if (now.items == 0) return;
    out << what << std::setw(7) << now.items << "       " << now.mean_cosine << "  " << now.min_cosine << "   ("
        << plain.mean_cosine << ", " << plain.min_cosine << ")\n";
  };
  line("pictures", c.images, c.plain_images), line("texts   ", c.texts, c.plain_texts);
  std::map<std::string, int> ranges;
  bool migrated = false;
  for (const auto& [name, layer] : c.layers) {
    if (!layer.choice.keep) ++ranges[layer.range];
    migrated = migrated || !layer.choice.migration.empty();
  }
  out << "scales:";
  for (const auto& [range, count] : ranges) out << ' ' << count << " by " << range << (range == "row" ? "s" : "");
  out << (migrated ? "; migrated" : "") << "\nweights rounded for their inputs: " << c.rounded_layers().size() << " of "
      << c.layers.size() << "\nkept back:";
  const auto names = kept(c);
  if (names.empty()) out << " nothing";
  for (const std::string& name : names) out << ' ' << name;
  out << "; " << std::setprecision(2) << 100 * c.eight_bit_share
      << " % of the blocks' multiply-adds are in eight bits\n"
      << file << '\n';
  return out.str();
}

int run(const Options& options, Console& console) {
  if (options.common.engine.devices.size() > 1) throw UsageError("calibrate uses one device: name one with --device");
  calibration::Options how = options.how;
  const EngineOptions& e = options.common.engine;
  if (!e.keep.empty() || !e.calibration.empty()) {
    throw UsageError("calibrate chooses the layers itself: leave out --keep and --calibration");
  }
  const StopScope stop;
  ContextOptions context = options.common.context;
  context.graphs = false, context.log = console.log_sink();
  const auto device = engine::make_backend(e.device, context);
  const bool host = device->stream() == nullptr;
  how.precision = e.precision != Precision::automatic ? e.precision : host ? Precision::int8 : Precision::fp8;
  if (!model::is_eight_bit(how.precision)) {
    throw UsageError(cat("int8 and fp8 are calibrated, not ", to_string(how.precision)));
  }
  std::unique_ptr<backend::Backend> simulated;
  if (host && how.precision == Precision::fp8) simulated = std::make_unique<calibration::SimulatedFp8>(*device);
  backend::Backend& backend = simulated ? *simulated : *device;
  backend.resolve(how.precision);  // before anything is read

  const model::ModelFiles files = open_model(options.common);
  const std::string hash = files.open_weights()->hash();
  const std::filesystem::path file = calibration_destination(options.output, files, hash);
  embed::check_output_path(file.string());
  CalibrationInputs inputs = calibration_inputs(files, e, options.data, stop, console);
  if (inputs.inputs.pictures.empty()) return stop.exit_code();
  ThreadPool pool(usable_cores());
  how.threads = std::min(usable_cores() + 1, 8), how.pool = &pool;
  how.batch = static_cast<std::size_t>(options.batch), how.round = !options.nearest;
  how.sensitivity_samples = static_cast<std::size_t>(options.sensitivity_samples);
  model::Calibration found;
  try {
    Stages stages(console, stop);
    found = calibration::calibrate(files, backend, inputs.inputs, how, std::ref(stages));
  } catch (const Stages::Stopped&) {
    return stop.exit_code();
  }
  found.data = inputs.description, found.against = cat(to_string(device->device()), " (", backend.isa(), ")");
  write_calibration(found, file);

  if (console.json) {
    console.print(Json{{"file", file.string()},
                       {"model_hash", found.model_hash},
                       {"precision", to_string(found.precision)},
                       {"data", found.data},
                       {"images", accuracy_json(found.images)},
                       {"texts", accuracy_json(found.texts)},
                       {"plain_images", accuracy_json(found.plain_images)},
                       {"plain_texts", accuracy_json(found.plain_texts)},
                       {"rounded", found.rounded_layers()},
                       {"kept", kept(found)},
                       {"eight_bit_share", found.eight_bit_share},
                       {"reached", found.reached}}
                      .dump(-1, ' ', false, Json::error_handler_t::replace) +
                  "\n");
  } else {
    console.print(for_people(found, file.string()));
  }
  if (!found.reached) {
    console.say(Verbosity::warn, cat("keeping back ", 100 * how.most_kept,
                                     " % of a tower's multiply-adds does not reach a mean cosine of ", how.target_mean,
                                     " and a worst one of ", how.target_worst,
                                     ": try --migrate 0.5, or more with --most-kept, or another precision"));
  }
  return kOk;
}

}  // namespace

Command declare_calibrate(CLI::App& root) {
  CLI::App* app =
      root.add_subcommand("calibrate", "scales and sensitive layers for int8 and fp8, found on your pictures");
  auto options = std::make_shared<Options>();
  Flags flags(*app);
  CalibrationData& data = options->data;
  flags.text("--data", data.data,
             "a folder of pictures, a .tar of them, emoji or random; default: emoji for the demo model, random for "
             "others");
  flags.number("--samples", data.samples, 1, 1 << 20, "pictures of it, evenly from all")->default_str("512");
  flags.number("--seed", data.seed, 0, 1 << 30, "of emoji and random pictures")->default_str("1");
  declare_texts(flags, "--texts", data.texts, data.text_format);
  flags
      .real("--migrate", options->how.migration, 0, 1,
            "SmoothQuant's alpha, such as 0.5: large inputs of a layer move into its weights, where that helps; 0: no")
      ->default_str("0");
  flags.flag("--nearest", options->nearest,
             "weights are rounded each to the nearest number, not for what they are multiplied with: quicker");
  flags
      .real("--target-cosine", options->how.target_worst, -1, 0.999999,
            "layers are kept back until no vector's cosine with fp32 is below")
      ->default_str("0.99");
  flags.real("--target-mean", options->how.target_mean, -1, 0.999999, "and their mean is not below")
      ->default_str("0.997");
  flags.real("--most-kept", options->how.most_kept, 0, 1, "the share of a tower's multiply-adds that may be kept back")
      ->default_str("0.1");
  flags
      .number("--sensitivity-samples", options->sensitivity_samples, 1, 1 << 20,
              "pictures, and texts, on which each layer is put back in turn")
      ->default_str("32");
  flags.number("--batch", options->batch, 1, 4096, "items in a forward pass")->default_str("8");
  flags.text("--output", options->output,
             "the file, or a folder; default: tandem-calibration.json beside the model, where it is "
             "found by itself; in the cache folder where that cannot be written");
  declare_common(*app, options->common);
  app->footer(
      "Example:\n  tandem calibrate --model my-clip --data photos/ --samples 512 --precision int8\n"
      "  tandem embed --model my-clip --precision int8 --images photos/ --output photos.npy   (uses what was found)");
  return {app, std::shared_ptr<CommonOptions>(options, &options->common),
          [options](Console& console) { return run(*options, console); }};
}

}  // namespace tandem::cli
