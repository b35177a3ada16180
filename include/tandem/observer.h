// Who wants to know where an Engine's time goes.
#pragma once

#include <cstddef>

namespace tandem {

/// What an Engine tells of its work as it happens. Called on the Engine's own threads, from several at once: an
/// implementation counts and returns. All times are seconds.
class Observer {
 public:
  virtual ~Observer() = default;

  /// An item was prepared: how long decoding and resizing took. A text's tokenising counts as `decode`.
  virtual void prepared(bool image, double decode, double resize) noexcept = 0;
  /// An item's computation begins: how long it waited before, its preparation not counted.
  virtual void waited(bool image, double seconds) noexcept = 0;
  /// A batch was computed. copy: handing its pixels to the device, as far as a thread was busy with that; what travels
  /// while the device computes is part of `compute`.
  virtual void computed(bool image, std::size_t items, double copy, double compute) noexcept = 0;
};

}  // namespace tandem
