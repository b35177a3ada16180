// tandem bench --tune: the fastest algorithm of every product of a pass, measured, into a file.
#pragma once

#include "cli/bench_inputs.h"
#include "cli/bench_options.h"

namespace tandem::cli {

/// Runs the passes that were asked for on a backend that times what it could compute each product with, adds what was
/// fastest to the file options.tune, and prints how many shapes that were. Throws invalid_argument for a device with
/// nothing to choose, before anything is loaded, and io_error for a file that cannot be written.
void tune(const BenchOptions& options, const model::ModelFiles& files, const BenchInputs& inputs, std::size_t batch,
          Console& console);

}  // namespace tandem::cli
