// How soon a client wants its answer.
#pragma once

#include <optional>
#include <string_view>

namespace tandem::server {

/// The headers X-Priority and X-Timeout, or the fields "priority" and "timeout" of a JSON body, which count where both
/// are given.
struct Wishes {
  std::optional<bool> high;       ///< "high": before all others; "normal"
  std::optional<double> timeout;  ///< seconds, after which the answer is of no use; the server's own limit stays

  /// Takes those that are given over its own.
  void take(const Wishes& other) {
    if (other.high) high = other.high;
    if (other.timeout) timeout = other.timeout;
  }
};

/// "high" or "normal". Throws a FieldError (invalid_argument) that names `param`.
bool is_high(std::string_view priority, const char* param);
/// More than 0 and at most a day. Throws as is_high().
double checked_timeout(double seconds, const char* param);
/// From headers; an empty one is absent. Throws as is_high().
Wishes wishes_of(std::string_view priority, std::string_view timeout);

}  // namespace tandem::server
