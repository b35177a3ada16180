// Seconds, as numbers and as the clock has them.
#pragma once

#include <chrono>

namespace tandem {

/// From `begin` until now, in seconds.
inline double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// So many seconds, rounded down to what the clock counts.
inline std::chrono::steady_clock::duration seconds_of(double value) {
  return std::chrono::duration_cast<std::chrono::steady_clock::duration>(std::chrono::duration<double>(value));
}

}  // namespace tandem
