// tandem bench --stages: where the time of a pass goes.
#pragma once

#include "cli/bench_inputs.h"
#include "cli/bench_options.h"

namespace tandem::cli {

/// Runs the passes that were asked for on a backend that measures every operation, and prints the milliseconds of every
/// stage of a pass of each tower: the mean of options.runs, after options.warmup.
void show_stages(const BenchOptions& options, const model::ModelFiles& files, const BenchInputs& inputs,
                 std::size_t batch, Console& console);

}  // namespace tandem::cli
