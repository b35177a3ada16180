// How the server is operated: who may ask, what is written down, over what.
#pragma once

#include <string>
#include <vector>

namespace tandem::server {

struct OperationOptions {
  bool access_log = false;  ///< a line of JSON for every request, to standard error unless log_file is set
  std::string log_file;     ///< the same, appended to a file, which SIGHUP opens anew

  std::string api_key_file;               ///< "NAME SHA256 [REQUESTS A MINUTE]" a line; empty: everybody may ask
  std::vector<std::string> cors_origins;  ///< pages that may ask from another site; "*": all
  std::string tls_cert, tls_key;          ///< PEM; SIGHUP reads them again. Empty: plain HTTP

  std::string otlp_endpoint;  ///< http(s)://HOST:4318[/v1/traces] of an OpenTelemetry collector; empty: no spans
};

}  // namespace tandem::server
