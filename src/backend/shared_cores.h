// The cores that several backends of a processor have together.
#pragma once

#include <algorithm>
#include <atomic>

namespace tandem::backend {

/// What is going on on them. Passes beside each other are worth more than threads beside each other, which wait for one
/// another at the end of every operation: so a pass has all threads only while nobody else has use for them.
struct SharedCores {
  std::atomic<int> passes{0};     ///< under way
  std::atomic<int> preparing{0};  ///< threads that prepare inputs

  /// How many of `threads` an operation of one of the passes takes.
  int part_of(int threads) const noexcept {
    const int others = preparing.load(std::memory_order_relaxed), mine = passes.load(std::memory_order_relaxed);
    return std::clamp((threads - others) / std::max(mine, 1), 1, threads);
  }
};

}  // namespace tandem::backend
