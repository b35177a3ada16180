// Passes that nobody waits for: what the first requests would find slow, and what measurements count.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/lane.h"

namespace tandem::engine {

/// Passes of one kind through a lane in which nothing is begun. All throw what a pass throws.
class Rehearsal {
 public:
  /// Tokens of a usual text, with start and end: a caption.
  static constexpr std::size_t kUsualTokens = 12;

  Rehearsal(Lane& lane, bool images);

  bool images() const noexcept { return images_; }
  Lane& lane() noexcept { return lane_; }
  /// A text of `tokens`, at least 2 and at most what the model takes, for each item; of pictures they do not matter.
  /// Returns the seconds that it took.
  double pass(std::size_t items, std::size_t tokens = kUsualTokens);
  /// Two passes, the second begun before the first is finished, where the lane can do that.
  void pair(std::size_t items);
  /// Passes so far.
  int passes() const noexcept { return passes_; }

 private:
  std::vector<Item> make(std::size_t items, std::size_t tokens);

  Lane& lane_;
  const bool images_;
  std::shared_ptr<const std::vector<std::uint8_t>> pixels_;  ///< noise
  int passes_ = 0;
};

/// What became of warm_up().
struct Warmth {
  int passes = 0;
  double seconds = 0;
  std::size_t most = 0;  ///< items of a pass that there is memory for, as far as it was tried
};

/// Computes passes of the usual sizes, up to `most` items, so that the first requests find what later ones find: plans
/// made, memory touched and, on a device that works beside the host, passes recorded (a pass is recorded the second
/// time that it comes). There sizes up to eight, steps beyond them and single texts of all lengths are computed; on a
/// processor, which has less to prepare and takes longer, powers of two for about as long as half a second, the first
/// in any case. Sizes whose memory is not there are left out.
Warmth warm_up(Rehearsal& rehearsal, std::size_t most);

}  // namespace tandem::engine
