// Jobs over many items, as embed, classify and search run them: inputs, engine, progress, Ctrl-C.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cli/common.h"
#include "cli/signals.h"
#include "embed/job.h"
#include "embed/text_inputs.h"

namespace tandem::cli {

/// Pictures, then texts. A file of texts that cannot be opened is an item with its error; throws UsageError for names
/// that cannot be meant.
std::unique_ptr<embed::ItemSource> open_inputs(const std::vector<std::string>& images, const std::string& texts,
                                               embed::TextFormat format, const StopScope& stop);

/// embed::run_job on an engine, with a progress line; failed items are named on standard error. Unless it was
/// interrupted, calls `finish` (files get their names, results are printed). Returns the command's exit code.
int run_items(Engine& engine, embed::ItemSource& source, embed::Sink& sink, const EmbedOptions& options,
              const StopScope& stop, Console& console, const std::function<void(const embed::JobReport&)>& finish);

}  // namespace tandem::cli
