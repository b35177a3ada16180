// Numbers from a seed: the same on every machine, unlike the standard library's distributions.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

namespace tandem::loadtest {

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014). One thread.
class Random {
 public:
  explicit Random(std::uint64_t seed) noexcept : state_(seed) {}

  std::uint64_t next() noexcept {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  /// 0 to count - 1; count is at least 1.
  std::size_t below(std::size_t count) noexcept { return static_cast<std::size_t>(next() % count); }
  /// In [0, 1).
  double share() noexcept { return static_cast<double>(next() >> 11) * 0x1p-53; }
  /// Exponential with mean 1: the gaps between the arrivals of a Poisson process of rate 1.
  double gap() noexcept { return -std::log1p(-share()); }

 private:
  std::uint64_t state_;
};

}  // namespace tandem::loadtest
