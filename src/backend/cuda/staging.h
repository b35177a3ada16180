// Page-locked memory between the host's and the device's: copies to the device are asynchronous, and the caller's
// bytes are free again when the call returns.
#pragma once

#include <array>
#include <condition_variable>
#include <mutex>

#include "backend/cuda/runtime.h"

namespace tandem::backend::cuda {

/// A ring of slots. Copies are appended to the open slot; a full one is closed, and used again when the stream has
/// passed its last copy. Safe to use from several threads: they fill the memory side by side.
class Staging {
 public:
  Staging(Health& health, cudaStream_t stream);

  cudaStream_t stream() const noexcept { return stream_; }
  /// Bytes into device memory, in the stream's order.
  void upload(const void* host, void* device, std::size_t bytes);
  /// The same for `elements` of `from`, stored as `to` on the device (f32, f16, bf16): it converts, not the host.
  void upload(const void* host, DType from, void* device, DType to, std::int64_t elements);
  /// Bytes of device memory; returns when they are there.
  void download(const void* device, void* host, std::size_t bytes);

 private:
  static constexpr std::size_t kSlotBytes = std::size_t{8} << 20;
  static constexpr std::size_t kSlots = 4;
  static constexpr std::size_t kAlignment = 256;
  struct Slot {
    Pinned memory;
    Event passed;
    std::size_t used = 0;
    int filling = 0;  ///< threads that still write into it
    bool closed = false;
    bool recorded = false;  ///< `passed` stands in the stream behind its last copy
  };
  struct Piece {
    Slot* slot;
    std::byte* host;
  };
  Piece begin(std::size_t bytes);
  void end(Slot& slot);
  void record(Slot& slot);

  Health& health_;
  cudaStream_t stream_;
  std::array<Slot, kSlots> slots_;
  std::size_t open_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::mutex download_mutex_;
  Pinned download_;  ///< from the first download on
};

}  // namespace tandem::backend::cuda
