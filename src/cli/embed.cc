// tandem embed: pictures and texts to vectors.
#include "base/strings.h"
#include "cli/commands.h"
#include "cli/jobs.h"
#include "cli/modes.h"
#include "embed/output_file.h"
#include "embed/sink.h"
#include "tandem/version.h"

namespace tandem::cli {
namespace {

struct Options {
  CommonOptions common;
  ModeFlag mode;
  std::vector<std::string> images;
  std::string texts, output;
  embed::TextFormat text_format = embed::TextFormat::automatic;
  EmbedOptions embed;
  bool no_normalize = false, provenance = false;
  int batch = 0;
};

embed::Provenance provenance_of(const EngineInfo& info, const EmbedOptions& options) {
  return {{{"model", info.model},
           {"model_hash", info.model_hash},
           {"precision", info.precision},
           {"device", info.device},
           {"device_name", info.device_name},
           {"isa", info.isa},
           {"reference", info.reference},
           {"exif", info.exif},
           {"decode", info.decode},
           {"cleaning", info.cleaning},
           {"feature", std::string(to_string(options.feature))},
           {"tandem_version", std::string(version())}},
          options.normalize};
}

std::size_t vector_size(const EngineInfo& info, const Options& options) {
  if (options.embed.feature == Feature::projected) return static_cast<std::size_t>(info.embed_dim);
  if (!options.images.empty() && !options.texts.empty() && info.vision_width != info.text_width) {
    throw UsageError(cat("pooled vectors of images have ", info.vision_width, " values and those of texts ",
                         info.text_width, ": write them to two outputs, or to a .jsonl"));
  }
  return static_cast<std::size_t>(options.images.empty() ? info.text_width : info.vision_width);
}

int run(Options options, Console& console) {
  if (options.images.empty() && options.texts.empty()) {
    throw UsageError("nothing to embed: give --images PATH… or --texts FILE, or both");
  }
  options.embed.normalize = !options.no_normalize;
  auto format = embed::OutputFormat::jsonl;
  if (!options.output.empty()) {
    try {
      format = embed::output_format(options.output);
    } catch (const Error& e) {
      throw UsageError(e.what());
    }
    embed::check_output_path(options.output);
  }
  StopScope stop;
  const auto source = open_inputs(options.images, options.texts, options.text_format, stop);

  const auto mode = options.mode.apply(options.common.engine, options.common.context);
  if (mode && options.batch == 0) options.batch = mode->max_batch;
  options.common.engine.max_batch = options.batch;
  options.common.engine.load_vision = !options.images.empty();
  options.common.engine.load_text = !options.texts.empty();
  if (!options.texts.empty()) require_tokenizer(options.common);
  const LoadedEngine engine = load_engine(options.common, console);
  stop.arm();
  const embed::Provenance provenance = provenance_of(engine->info(), options.embed);
  const auto sink =
      format == embed::OutputFormat::jsonl
          ? embed::make_jsonl_sink(options.output, options.provenance ? &provenance : nullptr)
          : embed::make_matrix_sink(options.output, format, vector_size(engine->info(), options), provenance);
  return run_items(*engine, *source, *sink, options.embed, stop, console, [&](const embed::JobReport& report) {
    sink->finish();
    if (report.truncated > 0) {
      console.note(cat(report.truncated, " of the texts were longer than the model's ", engine->info().context_length,
                       " tokens and were cut"));
    }
  });
}

}  // namespace

Command declare_embed(CLI::App& root) {
  CLI::App* app = root.add_subcommand("embed", "vectors of pictures and texts, as JSON Lines, .npy or .safetensors");
  auto options = std::make_shared<Options>();
  Flags flags(*app);
  declare_pictures(flags, "--images", options->images);
  declare_texts(flags, "--texts", options->texts, options->text_format);
  flags.choice("--feature", options->embed.feature, parse_feature,
               "projected (what CLIP compares) or pooled (the tower's own width)");
  flags.flag("--no-normalize", options->no_normalize, "leave vectors at their own length");
  flags.number("--batch", options->batch, 1, 65536, "items in a forward pass; default: chosen");
  flags.text("--output", options->output, "FILE.jsonl, .npy or .safetensors; default: JSON Lines on standard output");
  flags.flag("--provenance", options->provenance, "model, precision, device and preprocessing in every JSON line");
  options->mode.declare(*app);
  declare_common(*app, options->common);
  app->footer(
      "Example:\n  tandem embed --images photos/ --output photos.npy\n"
      "Beside .npy and .safetensors, OUTPUT.items.jsonl says which row, or which error, every input has.");
  return {app, std::shared_ptr<CommonOptions>(options, &options->common),
          [options](Console& console) { return run(*options, console); }};
}

}  // namespace tandem::cli
