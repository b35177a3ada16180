#include "telemetry/time_histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace tandem::telemetry {
namespace {

// Times are counted in sixteenths of a microsecond: the first octave, below 1 us, has one bucket for each, and from
// there on an octave is divided linearly, so that 1 and 1.5 times every power of two begin a bucket.
constexpr double kUnitsPerSecond = 16e6;

}  // namespace

std::size_t TimeHistogram::index(double seconds) noexcept {
  if (!(seconds > 0)) return 0;  // no number either
  const double units = seconds * kUnitsPerSecond;
  if (units >= 0x1p60) return kBuckets - 1;
  const auto whole = static_cast<std::uint64_t>(units);
  if (whole < kPerOctave) return whole;
  const auto octave = static_cast<std::size_t>(std::bit_width(whole)) - 4;  // 16 units: octave 1
  const std::size_t sub = (whole >> (octave - 1)) - kPerOctave;
  return std::min(octave * kPerOctave + sub, kBuckets - 1);
}

double TimeHistogram::lower(std::size_t index) noexcept {
  const std::size_t octave = index / kPerOctave, sub = index % kPerOctave;
  if (octave == 0) return static_cast<double>(sub) / kUnitsPerSecond;
  return std::ldexp(static_cast<double>(kPerOctave + sub), static_cast<int>(octave) - 1) / kUnitsPerSecond;
}

void TimeHistogram::record(double seconds) noexcept {
  buckets_[index(seconds)].fetch_add(1, std::memory_order_relaxed);
  if (seconds > 0 && seconds < 1e9) {
    nanoseconds_.fetch_add(static_cast<std::uint64_t>(seconds * 1e9), std::memory_order_relaxed);
  }
}

TimeCounts TimeHistogram::counts() const {
  TimeCounts out;
  out.buckets.reserve(kBuckets);
  for (const auto& bucket : buckets_) {
    out.buckets.push_back(bucket.load(std::memory_order_relaxed));
    out.count += out.buckets.back();
  }
  out.seconds = static_cast<double>(nanoseconds_.load(std::memory_order_relaxed)) / 1e9;
  return out;
}

void TimeHistogram::clear() noexcept {
  for (auto& bucket : buckets_) bucket.store(0, std::memory_order_relaxed);
  nanoseconds_.store(0, std::memory_order_relaxed);
}

void TimeCounts::add(const TimeCounts& other) {
  if (other.buckets.empty()) return;
  buckets.resize(TimeHistogram::kBuckets);
  for (std::size_t i = 0; i < buckets.size(); ++i) buckets[i] += other.buckets[i];
  count += other.count, seconds += other.seconds;
}

double TimeCounts::quantile(double q) const {
  if (count == 0) return 0;
  const double wanted = std::clamp(q, 0.0, 1.0) * static_cast<double>(count);
  double before = 0;
  for (std::size_t i = 0; i < buckets.size(); ++i) {
    const auto here = static_cast<double>(buckets[i]);
    if (here > 0 && before + here >= wanted) {
      const double begin = TimeHistogram::lower(i), end = TimeHistogram::lower(i + 1);
      return begin + (end - begin) * std::clamp((wanted - before) / here, 0.0, 1.0);
    }
    before += here;
  }
  return TimeHistogram::lower(TimeHistogram::kBuckets);
}

std::vector<TimeCounts::Bound> TimeCounts::bounds() const {
  constexpr std::size_t kFirst = 5, kLast = 28;  // octaves that begin at 16 us and 134 s
  std::vector<Bound> out;
  std::uint64_t cumulative = 0;
  std::size_t next = 0;
  for (std::size_t octave = kFirst; octave <= kLast; ++octave) {
    for (const std::size_t sub : {std::size_t{0}, TimeHistogram::kPerOctave / 2}) {
      const std::size_t end = octave * TimeHistogram::kPerOctave + sub;
      for (; next < end && next < buckets.size(); ++next) cumulative += buckets[next];
      out.push_back({TimeHistogram::lower(end), cumulative});
      if (octave == kLast) break;
    }
  }
  return out;
}

void RecentHistogram::record(double seconds, double now) noexcept {
  const auto epoch = static_cast<std::int64_t>(now / kSliceSeconds);
  Slice& slice = slices_[static_cast<std::size_t>(epoch) % kSlices];
  std::int64_t seen = slice.epoch.load(std::memory_order_acquire);
  // Whoever comes first into a new slice empties it.
  if (seen != epoch && slice.epoch.compare_exchange_strong(seen, epoch, std::memory_order_acq_rel)) slice.times.clear();
  slice.times.record(seconds);
}

double RecentHistogram::seconds(double now) noexcept {
  return std::min(now, kSliceSeconds * static_cast<double>(kSlices - 1) + std::fmod(now, kSliceSeconds));
}

TimeCounts RecentHistogram::counts(double now) const {
  const auto epoch = static_cast<std::int64_t>(now / kSliceSeconds);
  TimeCounts out;
  for (const Slice& slice : slices_) {
    const std::int64_t seen = slice.epoch.load(std::memory_order_acquire);
    if (seen >= 0 && seen > epoch - static_cast<std::int64_t>(kSlices)) out.add(slice.times.counts());
  }
  return out;
}

}  // namespace tandem::telemetry
