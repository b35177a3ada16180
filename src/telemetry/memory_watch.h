// The process's memory, and whether it grows with the requests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>

namespace tandem::telemetry {

/// What the system says of this process; 0 where it says nothing.
struct ProcessFacts {
  std::size_t resident_bytes = 0, peak_resident_bytes = 0, virtual_bytes = 0;
  double cpu_seconds = 0, start_seconds = 0;  ///< start: since 1970
  std::size_t open_files = 0, max_files = 0;
};
ProcessFacts process_facts();

/// Memory growth per 1,000 requests: the slope of a line through samples that lie at least so many requests apart.
class MemoryWatch {
 public:
  static constexpr std::uint64_t kApart = 1000;
  static constexpr std::size_t kSamples = 64;
  /// Memory of the first requests is not growth: caches and arenas fill.
  static constexpr std::uint64_t kWarmUp = 1000;

  /// Reads the process's memory, and keeps it where enough requests have passed since the last sample.
  void sample(std::uint64_t requests);
  /// The same with the memory given.
  void add(std::uint64_t requests, std::size_t resident_bytes);

  /// Bytes for every 1,000 requests; 0 with fewer than 3 samples.
  double growth_per_1000() const;
  std::size_t samples() const;

 private:
  struct Sample {
    double requests, bytes;
  };
  mutable std::mutex mutex_;
  std::deque<Sample> samples_;
  std::uint64_t last_ = 0;
};

}  // namespace tandem::telemetry
