// The CUDA runtime with errors thrown: devices, owners of streams, events and memory.
#pragma once

#include <cuda_runtime_api.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "backend/cuda/library.h"
#include "tensor/tensor.h"

namespace tandem::backend::cuda {

/// Throws device_failure (out_of_memory where that is what it says) with the runtime's own words; for calls outside of
/// a backend's life.
void check(cudaError_t result, const char* what);

/// What a backend remembers of its device: after an error that no later call can recover from ("sticky"), every call
/// throws that first error.
class Health {
 public:
  /// Bytes of device memory, counted by whoever allocates and by the buffers themselves when they die.
  struct Count {
    std::atomic<std::size_t> held{0}, peak{0};
  };
  explicit Health(int device) : device_(device) {}
  /// Throws when `result` is an error. `what` names the call for the message.
  void check(cudaError_t result, const char* what);
  /// Makes the device current on this thread. Throws the first sticky error.
  void enter();
  /// As check(), for a call that failed beyond recovery without an error of the runtime (cuBLAS).
  [[noreturn]] void fail(const std::string& message);
  bool dead() const;
  const std::shared_ptr<Count>& count() const noexcept { return count_; }

 private:
  const std::shared_ptr<Count> count_ = std::make_shared<Count>();
  const int device_;
  mutable std::mutex mutex_;
  std::optional<Error> first_;
};

std::vector<CudaDevice> list_devices();

/// cudaMalloc, counted by `health`. Throws out_of_memory with the bytes asked for, free and in all. Freed on any
/// thread.
Buffer allocate_device(Health& health, int device, std::size_t bytes);

/// At least so many bytes in `memory`, new ones where it has fewer: then it waits for what `stream` may do with the
/// old.
void make_room(Health& health, int device, cudaStream_t stream, std::size_t bytes, Buffer& memory);

/// A plain owner of one of the runtime's handles.
template <class Handle, cudaError_t (*kDestroy)(Handle)>
class Owned {
 public:
  Owned() = default;
  explicit Owned(Handle handle) : handle_(handle) {}
  Owned(Owned&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Owned& operator=(Owned&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Owned() {
    if (handle_ != nullptr) static_cast<void>(kDestroy(handle_));
  }
  Handle get() const noexcept { return handle_; }
  Handle release() noexcept { return std::exchange(handle_, nullptr); }

 private:
  Handle handle_ = nullptr;
};
using Stream = Owned<cudaStream_t, cudaStreamDestroy>;
using Event = Owned<cudaEvent_t, cudaEventDestroy>;
using Pinned = Owned<void*, cudaFreeHost>;

Stream make_stream(Health& health);
/// `times`: cudaEventElapsedTime() can read it; other events cost less.
Event make_event(Health& health, bool times = false);
Pinned make_pinned(Health& health, std::size_t bytes);

}  // namespace tandem::backend::cuda
