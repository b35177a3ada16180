// What is known of a request beyond what its handler needs: for the log, the metrics, traces, and who may ask what.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace tandem::server {

class ApiKey;

struct Facts {
  // From the head.
  std::string request_id;               ///< X-Request-ID; made where there is none
  std::string traceparent, tracestate;  ///< W3C; empty where there is none that is well-formed
  std::string client;                   ///< address
  std::string secret;                   ///< what was given as API key
  std::string origin;
  std::string preflight;       ///< Access-Control-Request-Method
  std::string wanted_headers;  ///< Access-Control-Request-Headers
  std::string agent;

  std::size_t route = 0;  ///< index into routes(); their number: none of them
  std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();
  std::chrono::system_clock::time_point begin_time = std::chrono::system_clock::now();
  bool origin_allowed = false;             ///< pages of this origin may ask (--cors-origin)
  std::shared_ptr<const ApiKey> key = {};  ///< null: none is needed
  std::size_t bytes_in = 0;

  // Written where the work is done, maybe after the answer was given up.
  std::atomic<std::uint32_t> images{0}, texts{0};
  std::atomic<double> queue_seconds{0}, prepare_seconds{0}, compute_seconds{0};
};

}  // namespace tandem::server
