// Flags of `serve` for operating it: logs, keys, certificates, traces.
#pragma once

#include "cli/flags.h"
#include "server/operation_options.h"

namespace tandem::cli {

void declare_operation(Flags& flags, server::OperationOptions& options);

}  // namespace tandem::cli
