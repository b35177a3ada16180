// Sending requests at a server and accounting for every one of them.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "loadtest/requests.h"
#include "loadtest/url.h"

namespace tandem::loadtest {

/// When requests are sent. In an open loop a schedule decides, whatever the server does; in a closed loop each
/// connection sends its next request when the one before is answered.
enum class Arrivals : std::uint8_t { closed, poisson, constant };

/// Throws invalid_argument for another word.
Arrivals parse_arrivals(std::string_view name);
std::string_view name_of(Arrivals arrivals) noexcept;

struct LoadOptions {
  Url url;
  MixOptions mix;
  Arrivals arrivals = Arrivals::closed;
  double rate = 0;             ///< requests a second, of an open loop
  int concurrency = 16;        ///< connections of a closed loop; the most that an open loop opens
  double seconds = 10;         ///< of sending
  std::uint64_t requests = 0;  ///< end after so many instead; 0: after `seconds`
  double warmup = 0;           ///< seconds at the begin that count for nothing but the accounts
  double timeout = 60;         ///< seconds from a request's intended time to its answer
  int threads = 1;
  std::uint64_t seed = 1;
  bool check = true;  ///< look into every answer
};

/// Why a request has no answer.
enum class Lost : std::uint8_t {
  no_connection,  ///< the server took no connection: it has never seen the request
  not_sent,       ///< all connections were busy until its time was over
  closed,         ///< the connection ended before a whole answer
  timeout,        ///< no whole answer in time
  malformed       ///< what came was no HTTP
};
constexpr std::size_t kLostKinds = 5;
std::string_view name_of(Lost lost) noexcept;

/// One right answer to a request that could be answered. Milliseconds.
struct Sample {
  float latency;  ///< from the time when the request was to be sent
  float service;  ///< from the time when it was sent
  Kind kind;
};

/// sent == answered + unanswered; answered == right + refused + wrong.
struct Tally {
  std::uint64_t sent = 0, answered = 0;
  std::uint64_t right = 0;           ///< 200 with what was asked for, or the 4xx that a corrupt picture has to get
  std::uint64_t refused = 0;         ///< 429 and 503: the server says that it has no room
  std::uint64_t wrong = 0;           ///< any other status, or a 200 whose vectors are not right
  std::uint64_t right_refusals = 0;  ///< of `right`: corrupt pictures
  std::uint64_t right_items = 0;     ///< pictures and texts of right answers, corrupt ones excluded
  std::uint64_t retried = 0;  ///< sent again: the connection had rested, and ended before the server read anything
  std::uint64_t connections = 0, bytes_sent = 0, bytes_received = 0;
  std::array<std::uint64_t, kLostKinds> lost{};
  std::map<int, std::uint64_t> statuses;
  std::vector<std::string> examples;                     ///< of what was wrong, the first few
  std::vector<Sample> samples;                           ///< right answers after the warm-up
  std::uint64_t measured_right = 0, measured_items = 0;  ///< right answers after the warm-up
  double last_answer = 0;                                ///< seconds from the begin to the last right answer
  double latest_dispatch = 0;  ///< milliseconds by which the generator itself was late, at worst

  std::uint64_t unanswered() const noexcept;
  void add(Tally&& other);
};

struct LoadResult {
  Tally tally;
  double seconds = 0;      ///< measured: from the end of the warm-up to the end of sending, or to the last right answer
  double cpu_seconds = 0;  ///< that this process used meanwhile
  std::size_t pictures = 0;
  double picture_bytes = 0;
  bool interrupted = false;
};

/// Runs on `options.threads` threads of its own until everything that was sent is answered or given up. `stop` ends the
/// sending early. `tick` is called about ten times a second with seconds and answers so far. Throws invalid_argument,
/// not_found (options, folder) and unavailable when nobody listens there.
LoadResult run_load(const LoadOptions& options, const std::atomic<bool>* stop,
                    const std::function<void(double, std::uint64_t)>& tick = nullptr);

}  // namespace tandem::loadtest
