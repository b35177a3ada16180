#include "server/wishes.h"

#include <charconv>

#include "base/strings.h"
#include "server/message.h"

namespace tandem::server {

bool is_high(std::string_view priority, const char* param) {
  if (priority == "high") return true;
  if (priority == "normal") return false;
  throw FieldError(Code::invalid_argument,
                   cat(param, " must be \"high\" or \"normal\", not \"", priority.substr(0, 32), "\""), param);
}

double checked_timeout(double seconds, const char* param) {
  constexpr double kDay = 86'400;
  if (seconds > 0 && seconds <= kDay) return seconds;
  throw FieldError(Code::invalid_argument, cat(param, " must be a number of seconds above 0, at most ", kDay), param);
}

Wishes wishes_of(std::string_view priority, std::string_view timeout) {
  Wishes out;
  if (!priority.empty()) out.high = is_high(priority, "X-Priority");
  if (!timeout.empty()) {
    double seconds = 0;
    const auto [end, problem] = std::from_chars(timeout.data(), timeout.data() + timeout.size(), seconds);
    if (problem != std::errc() || end != timeout.data() + timeout.size()) seconds = 0;
    out.timeout = checked_timeout(seconds, "X-Timeout");
  }
  return out;
}

}  // namespace tandem::server
