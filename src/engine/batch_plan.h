// Which sizes passes should have, from what passes of several sizes take.
#pragma once

#include <cstddef>
#include <vector>

namespace tandem::engine {

/// What a pass of so many items takes, as it was measured.
struct PassTime {
  std::size_t items = 0;
  double seconds = 0;
  double spread = 0;  ///< by how much of that a second look differed
};

/// Seconds for a pass of `items`, by the two measured sizes around it; beyond the largest, what an item costs where it
/// costs least, so that a size that nobody has tried is never cut for a guess. times: by items, ascending, not empty.
double estimate(const std::vector<PassTime>& times, std::size_t items);

/// How what waits is cut into passes: so that it is all done soonest. 33 pictures run as 33, or as 32 and 1 where that
/// is faster, as on a device that computes in tiles. Whoever comes while a pass is computed waits for its end: one that
/// takes kLong is large enough, as long as an item of it costs no more than kSlack above the least.
class BatchPlan {
 public:
  /// Everything at once.
  BatchPlan() = default;
  /// times: as estimate() takes them; empty: everything at once. most: items of one pass.
  BatchPlan(const std::vector<PassTime>& times, std::size_t most);

  /// Of so many items that wait, how many the next pass should have: 1 to `waiting`, and no more than a pass has; the
  /// largest of the passes planned.
  std::size_t next(std::size_t waiting) const;

  /// A cut has to be faster by this part, since times are only measured; and by twice their usual spread where that is
  /// more: on a machine that others use too, the cut would be made for what they did.
  static constexpr double kWorth = 0.03;
  static constexpr double kLong = 0.4;  ///< seconds; reading a model's weights is little beside that
  static constexpr double kSlack = 0.02;

 private:
  std::size_t most_ = 0;
  std::vector<std::size_t> first_;  ///< by items that wait
};

}  // namespace tandem::engine
