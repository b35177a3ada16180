#include "tandem/error.h"

namespace tandem {

std::string_view code_name(Code code) noexcept {
  switch (code) {
    case Code::invalid_argument: return "invalid_argument";
    case Code::not_found: return "not_found";
    case Code::unsupported: return "unsupported";
    case Code::bad_data: return "bad_data";
    case Code::too_large: return "too_large";
    case Code::overloaded: return "overloaded";
    case Code::deadline_exceeded: return "deadline_exceeded";
    case Code::cancelled: return "cancelled";
    case Code::unavailable: return "unavailable";
    case Code::out_of_memory: return "out_of_memory";
    case Code::device_failure: return "device_failure";
    case Code::io_error: return "io_error";
    case Code::internal: return "internal";
  }
  return "internal";
}

}  // namespace tandem
