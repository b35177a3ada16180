// Scratch memory of the threads of one backend. It grows to what the largest call needed and stays: a second call of
// the same shape allocates nothing.
#pragma once

#include <cstddef>
#include <cstring>
#include <vector>

#include "tensor/tensor.h"

namespace tandem::backend::cpu {

class Workspace {
 public:
  explicit Workspace(int threads) : buffers_(static_cast<std::size_t>(threads)) {}

  int threads() const noexcept { return static_cast<int>(buffers_.size()); }

  /// Makes room for `bytes` in every thread's part. Before a parallel region, by the calling thread.
  void reserve(std::size_t bytes) {
    if (bytes <= bytes_) return;
    for (auto& b : buffers_) {
      b = allocate_host(bytes, 64);
      // Vector loads reach beyond what was written; what they find there must be numbers.
      std::memset(b.data(), 0, bytes);
    }
    bytes_ = bytes;
  }
  std::byte* of(int thread) const noexcept { return buffers_[static_cast<std::size_t>(thread)].data(); }

 private:
  std::vector<Buffer> buffers_;
  std::size_t bytes_ = 0;
};

}  // namespace tandem::backend::cpu
