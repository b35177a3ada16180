#include "cli/operation_flags.h"

namespace tandem::cli {

void declare_operation(Flags& flags, server::OperationOptions& options) {
  flags.flag("--access-log", options.access_log, "a line of JSON for every request, to standard error");
  flags.text("--log-file", options.log_file, "the same, appended to this file; SIGHUP opens it anew");
  flags.text("--api-key-file", options.api_key_file, "lines NAME SHA256 [REQUESTS A MINUTE]; SIGHUP reads it again");
  flags.repeated("--cors-origin", options.cors_origins, "pages of this origin may ask; * for all; may be repeated");
  flags.text("--otlp-endpoint", options.otlp_endpoint, "a collector for spans, http://HOST:4318; default: none");
  flags.text("--tls-cert", options.tls_cert, "PEM: the certificate and its chain; SIGHUP reads it again");
  flags.text("--tls-key", options.tls_key, "PEM: the certificate's key");
}

}  // namespace tandem::cli
