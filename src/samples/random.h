// Random numbers that are the same on every machine and with every compiler: the standard's distributions are not.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace tandem::samples {

/// SplitMix64 (Steele, Lea and Flood 2014).
class Random {
 public:
  explicit Random(std::uint64_t seed) noexcept : state_(seed) {}
  /// One generator for each of many things that share a seed.
  Random(std::uint64_t seed, std::uint64_t number) noexcept : state_(seed) { state_ = next() ^ (number * kGolden); }

  std::uint64_t next() noexcept {
    std::uint64_t z = (state_ += kGolden);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }
  /// In [0, 1).
  double unit() noexcept { return static_cast<double>(next() >> 11) * 0x1p-53; }
  double between(double low, double high) noexcept { return low + (high - low) * unit(); }
  /// In [0, count); count at least 1.
  std::uint64_t below(std::uint64_t count) noexcept { return next() % count; }
  bool chance(double probability) noexcept { return unit() < probability; }

 private:
  static constexpr std::uint64_t kGolden = 0x9e3779b97f4a7c15ULL;
  std::uint64_t state_;
};

}  // namespace tandem::samples
