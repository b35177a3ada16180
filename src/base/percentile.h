// Percentiles of measured times.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace tandem {

/// The value that a share `p` (0 to 1) of `sorted` does not exceed: the smallest such one (nearest rank). 0 for an
/// empty list.
template <class T = float>
double percentile(const std::vector<T>& sorted, double p) {
  if (sorted.empty()) return 0;
  const double rank = std::ceil(p * static_cast<double>(sorted.size()) - 1e-9);  // 0.55 of 20 is a little above 11
  return sorted[static_cast<std::size_t>(std::clamp(rank, 1.0, static_cast<double>(sorted.size()))) - 1];
}

}  // namespace tandem
