// tandem bench --sweep: every precision at every batch, within a minute, and what to make of it.
#pragma once

#include "cli/bench_inputs.h"
#include "cli/bench_options.h"

namespace tandem::cli {

/// The flags of --sweep.
void declare_sweep(Flags& flags, SweepOptions& options);

/// Measures, writes sweep.json, sweep.md and the plots to `folder` (made where it is missing; none where the name is
/// empty), and prints the result: with --json the whole of it as one line, else as sweep.md has it. Throws what loading
/// throws where nothing could be measured at all, and io_error.
int sweep(const BenchOptions& options, const model::ModelFiles& files, const std::string& folder, Console& console);

}  // namespace tandem::cli
