// How long things took: counted without locks, read as percentiles and as the buckets that Prometheus wants.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tandem::telemetry {

/// A TimeHistogram at one moment; adds up with others.
struct TimeCounts {
  std::vector<std::uint64_t> buckets;  ///< by TimeHistogram's index; empty: nothing was counted
  std::uint64_t count = 0;
  double seconds = 0;  ///< sum

  void add(const TimeCounts& other);
  /// The time that a share `q` of all stays below, in seconds; at most 1/16 from the truth. 0 where nothing was
  /// counted.
  double quantile(double q) const;
  double mean() const { return count == 0 ? 0 : seconds / static_cast<double>(count); }

  /// For Prometheus: upper bounds in seconds, and how many lie at or below each.
  struct Bound {
    double seconds;
    std::uint64_t cumulative;
  };
  /// From 16 us to 134 s, in steps of 1.5 and 1.33 (each is a bound of the buckets, so these counts are exact).
  std::vector<Bound> bounds() const;
};

/// Thread-safe. An octave of time from 1 us to 18 minutes has 16 buckets; what lies outside counts in the outermost.
class TimeHistogram {
 public:
  static constexpr std::size_t kPerOctave = 16, kOctaves = 31, kBuckets = kPerOctave * kOctaves;

  /// Two relaxed additions.
  void record(double seconds) noexcept;
  TimeCounts counts() const;
  /// Not exact where others record meanwhile.
  void clear() noexcept;

  static std::size_t index(double seconds) noexcept;
  /// Where a bucket begins, in seconds; of kBuckets: where the last one ends.
  static double lower(std::size_t index) noexcept;

 private:
  std::array<std::atomic<std::uint64_t>, kBuckets> buckets_{};
  std::atomic<std::uint64_t> nanoseconds_{0};
};

/// The same, of about the last minute: slices of ten seconds, of which the oldest is forgotten.
class RecentHistogram {
 public:
  static constexpr std::size_t kSlices = 7;
  static constexpr double kSliceSeconds = 10;

  /// now: seconds of a clock that only goes forward. A time that is recorded just as a slice is begun anew may be lost.
  void record(double seconds, double now) noexcept;
  /// Of the last minute: six whole slices and what there is of the newest.
  TimeCounts counts(double now) const;
  /// How many seconds those are: up to a slice more than a minute, fewer in the first one.
  static double seconds(double now) noexcept;

 private:
  struct Slice {
    std::atomic<std::int64_t> epoch{-1};
    TimeHistogram times;
  };
  std::array<Slice, kSlices> slices_;
};

}  // namespace tandem::telemetry
