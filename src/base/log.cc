#include "base/log.h"

namespace tandem {

void Logger::log(LogLevel level, std::string_view message) const noexcept {
  if (!sink_ || !*sink_) return;
  try {
    (*sink_)(level, message);
  } catch (...) {
    // A sink that fails must not fail the work that was logged.
  }
}

}  // namespace tandem
