// The commands. Each file declares its flags on a CLI11 subcommand and returns what to run once they are parsed.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>

#include "cli/common.h"
#include "cli/console.h"

namespace tandem::cli {

struct Command {
  CLI::App* app = nullptr;
  std::shared_ptr<CommonOptions> common;
  /// Returns the exit code. Throws UsageError for flags that do not go together, Error for everything else.
  std::function<int(Console&)> run;
};

Command declare_info(CLI::App& root);
Command declare_tokenize(CLI::App& root);
Command declare_preprocess(CLI::App& root);
Command declare_embed(CLI::App& root);
Command declare_classify(CLI::App& root);
Command declare_search(CLI::App& root);
Command declare_bench(CLI::App& root);
Command declare_verify(CLI::App& root);
Command declare_calibrate(CLI::App& root);
Command declare_serve(CLI::App& root);
Command declare_stop(CLI::App& root);
Command declare_loadtest(CLI::App& root);

/// {"version","commit","backends"} or the same for people.
std::string version_text(bool json);

}  // namespace tandem::cli
