#include "cli/common.h"

#include "base/strings.h"
#include "embed/line_reader.h"
#include "engine/backends.h"
#include "engine/find_model.h"

namespace tandem::cli {
namespace {

Verbosity parse_verbosity(std::string_view name) {
  if (name == "debug") return Verbosity::debug;
  if (name == "info") return Verbosity::info;
  if (name == "warn") return Verbosity::warn;
  if (name == "error") return Verbosity::error;
  if (name == "off") return Verbosity::off;
  throw UsageError(cat("log level '", name, "' is unknown: choose one of debug, info, warn, error, off"));
}

}  // namespace

void declare_common(CLI::App& app, CommonOptions& options, std::vector<std::string>* models) {
  Flags flags(app);
  EngineOptions& engine = options.engine;
  const std::string model = "a folder, a name in the Hugging Face cache, emoji, or random:NAME[:SEED]";
  if (models) {
    flags.repeated("--model", *models, model + "; may be repeated: the first is used where a request names none")
        ->group("Model");
  } else {
    flags.text("--model", engine.model, model)->group("Model");
  }
  flags.text("--vocab", engine.vocab, "tokenizer files: a folder, tokenizer.json or bpe_simple_vocab_16e6.txt.gz")
      ->group("Model");
  flags.choice("--reference", engine.reference, parse_reference, "whose image arithmetic: auto, hf, openai, hf-fast")
      ->group("Model");
  flags.choice("--exif", engine.exif, parse_exif, "a picture's orientation tag: apply, ignore")->group("Model");
  flags.flag("--fast-decode", engine.fast_decode, "decode large JPEGs at a fraction of their size: not bit-exact")
      ->group("Model");
  flags.choice("--cleaning", engine.cleaning, parse_cleaning, "whose text cleaning: auto, hf, openai")->group("Model");
  const auto take_devices = [&engine](const std::string& word) {
    engine.devices = engine::parse_devices(word);
    engine.device = engine.devices.front();
  };
  flags.single("--device", take_devices, "auto, cpu, cuda, cuda:N; a list of them, or all: replicas on each")
      ->group("Device");
  flags.choice("--precision", engine.precision, parse_precision, "auto, fp32, tf32, fp16, bf16, int8, fp8")
      ->group("Device");
  flags
      .repeated("--keep", engine.keep,
                "in int8 and fp8: layers that stay in 16 or 32 bits, like vision.blocks.*.fc2; auto: calibration's "
                "choice (the default), none; may be repeated")
      ->group("Device");
  flags
      .text("--calibration", engine.calibration,
            "in int8 and fp8: a file of tandem calibrate, or none; default: the model's own, where there is one")
      ->group("Device");
  flags.number("--threads", options.context.threads, 0, 4096, "compute threads; 0: all cores")->group("Device");
  flags.flag("--pin-threads", options.context.pin_threads, "bind compute threads to cores")->group("Device");
  flags.flag("--no-graphs", options.no_graphs, "on a GPU, issue every pass step by step")->group("Device");
  flags.flag("--json", options.json, "JSON Lines on standard output, nothing else")->group("Output");
  flags.flag("--quiet", options.quiet, "no progress and no notes")->group("Output");
  flags.choice("--log-level", options.verbosity, parse_verbosity, "debug, info, warn, error, off")->group("Output");
}

void declare_pictures(Flags& flags, const std::string& name, std::vector<std::string>& into) {
  flags.list(name, into, "files, folders or patterns; - is a list on standard input");
}

void declare_texts(Flags& flags, const std::string& name, std::string& into, embed::TextFormat& format) {
  flags.text(name, into, "a file of texts: .txt (a text a line), .jsonl (objects with \"text\"), - (stdin)");
  flags.choice("--text-format", format, embed::parse_text_format, cat("of ", name, ": auto, txt, jsonl"));
}

model::ModelFiles open_model(const CommonOptions& options) {
  return engine::find_model(options.engine.model, options.engine.vocab);
}

void require_tokenizer(const CommonOptions& options) {
  const auto files = open_model(options);
  if (files.tokenizer.empty()) throw Error(Code::not_found, files.tokenizer_help);
}

LoadedEngine load_engine(const CommonOptions& options, Console& console, bool again) {
  ContextOptions context = options.context;
  context.graphs = !options.no_graphs;
  context.log = console.log_sink();
  LoadedEngine loaded;
  loaded.context = std::make_unique<Context>(context);
  loaded.engine = std::make_unique<Engine>(*loaded.context, options.engine);
  const EngineInfo& info = loaded.engine->info();
  if (!info.knows_photographs && !again) {
    console.note(
        "demo model: emoji (knows emoji, not photographs); load a real checkpoint with --model PATH or a hub name");
  }
  console.say(Verbosity::info, cat("loaded ", info.model, " on ", info.device, " (", info.device_name, ", ", info.isa,
                                   ") in ", info.precision, " in ", info.load_seconds, " s"));
  return loaded;
}

std::vector<std::string> read_lines(const std::string& path) {
  embed::LineReader lines(path);
  std::vector<std::string> out;
  std::string_view line;
  while (lines.next(line)) {
    if (!line.empty()) out.emplace_back(line);
  }
  return out;
}

}  // namespace tandem::cli
