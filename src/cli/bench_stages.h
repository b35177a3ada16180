// tandem bench --stages: where the time of a pass goes.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "cli/bench_inputs.h"
#include "cli/bench_options.h"

namespace tandem::cli {

/// What show_stages() prints: the model, device and precision, and for every tower {"total_ms", "stages": [{"stage",
/// "ms", "share", "operations"}]}, the longest first.
nlohmann::ordered_json measure_stages(const BenchOptions& options, const model::ModelFiles& files,
                                      const BenchInputs& inputs, std::size_t batch, Console& console);

/// Runs the passes that were asked for on a backend that measures every operation, and prints the milliseconds of every
/// stage of a pass of each tower: the mean of options.runs, after options.warmup.
void show_stages(const BenchOptions& options, const model::ModelFiles& files, const BenchInputs& inputs,
                 std::size_t batch, Console& console);

}  // namespace tandem::cli
