// The sums that the difference of two outputs is told from.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "verify/layers.h"

namespace tandem::verify {

/// Adds up rows of one output, as they come.
class Difference {
 public:
  /// Rows of `columns` values, whose first one is channel `first`.
  void add(std::span<const float> got, std::span<const float> want, std::int64_t columns, std::int64_t first = 0);
  LayerError result() const;

 private:
  struct Channel {
    double error = 0, want = 0, cross = 0, got = 0;  // squares, and got times want
  };
  std::vector<Channel> channels_;
};

}  // namespace tandem::verify
