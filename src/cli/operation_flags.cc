#include "cli/operation_flags.h"

namespace tandem::cli {

void declare_operation(Flags& flags, server::OperationOptions& options) {
  flags.flag("--access-log", options.access_log, "a line of JSON for every request, to standard error");
  flags.text("--log-file", options.log_file, "the same, appended to this file; SIGHUP opens it anew");
  flags.text("--api-key-file", options.api_key_file, "lines NAME SHA256 [REQUESTS A MINUTE]; SIGHUP reads it again");
  flags.repeated("--cors-origin", options.cors_origins, "pages of this origin may ask; * for all; may be repeated");
}

}  // namespace tandem::cli
