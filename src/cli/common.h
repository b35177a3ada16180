// What every command has in common: its flags, and how a model is found and loaded.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cli/console.h"
#include "cli/flags.h"
#include "embed/text_inputs.h"
#include "model/files.h"
#include "tandem/context.h"
#include "tandem/engine.h"

namespace tandem::cli {

struct CommonOptions {
  EngineOptions engine;  ///< `device` is the first of `devices`, where those are named
  ContextOptions context;
  bool json = false, quiet = false, no_graphs = false;
  Verbosity verbosity = Verbosity::warn;
};

/// --model, --vocab, --reference, --exif, --cleaning, --device, --precision, --threads, --pin-threads, --json, --quiet,
/// --log-level. With `models` --model may be repeated, and they take every one of them instead of options.engine.model.
void declare_common(CLI::App& app, CommonOptions& options, std::vector<std::string>* models = nullptr);

/// Pictures, under the flag or argument `name`.
void declare_pictures(Flags& flags, const std::string& name, std::vector<std::string>& into);
/// A file of texts under the flag `name`, and --text-format.
void declare_texts(Flags& flags, const std::string& name, std::string& into, embed::TextFormat& format);

/// A model's configuration and files; reads no weights. Throws not_found, bad_data, unsupported.
model::ModelFiles open_model(const CommonOptions& options);

/// For commands that take words: one error up front, saying what to put where, not one for every text.
void require_tokenizer(const CommonOptions& options);

/// A Context and an Engine on it.
struct LoadedEngine {
  std::unique_ptr<Context> context;
  std::unique_ptr<Engine> engine;
  Engine* operator->() const noexcept { return engine.get(); }
  Engine& operator*() const noexcept { return *engine; }
};

/// Loads the towers that options.engine names; for people, says so when the model is the demo, unless it is loaded
/// again.
LoadedEngine load_engine(const CommonOptions& options, Console& console, bool again = false);

/// "a b" → {"a", "b"}: the lines of a small file, or of standard input for "-", without empty ones.
std::vector<std::string> read_lines(const std::string& path);

}  // namespace tandem::cli
