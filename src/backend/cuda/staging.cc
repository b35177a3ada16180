#include "backend/cuda/staging.h"

#include <algorithm>
#include <cstring>

#include "backend/cuda/kernels.h"

namespace tandem::backend::cuda {
namespace {

constexpr std::size_t kDownloadBytes = std::size_t{4} << 20;

}  // namespace

Staging::Staging(Health& health, cudaStream_t stream) : health_(health), stream_(stream) {
  for (Slot& slot : slots_) slot.passed = make_event(health);
}

void Staging::record(Slot& slot) {
  const cudaError_t recorded = cudaEventRecord(slot.passed.get(), stream_);
  slot.recorded = true;  // even so: who waits for the slot finds the error, not silence
  changed_.notify_all();
  health_.check(recorded, "recording an event");
}

Staging::Piece Staging::begin(std::size_t bytes) {
  const std::size_t room = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  std::unique_lock lock(mutex_);
  for (;;) {
    Slot& slot = slots_[open_];
    if (slot.closed) {  // from the last time round
      changed_.wait(lock, [&] { return slot.recorded || !slot.closed; });
      if (!slot.closed) continue;
      health_.check(cudaEventSynchronize(slot.passed.get()), "waiting for a copy");
      slot.used = 0, slot.closed = slot.recorded = false;
      changed_.notify_all();
    }
    if (slot.used + room <= kSlotBytes) {
      if (slot.memory.get() == nullptr) slot.memory = make_pinned(health_, kSlotBytes);
      auto* host = static_cast<std::byte*>(slot.memory.get()) + slot.used;
      slot.used += room;
      ++slot.filling;
      return {&slot, host};
    }
    slot.closed = true;
    open_ = (open_ + 1) % kSlots;
    if (slot.filling == 0) record(slot);
  }
}

void Staging::end(Slot& slot) {
  const std::lock_guard lock(mutex_);
  if (--slot.filling == 0 && slot.closed) record(slot);
}

void Staging::upload(const void* host, void* device, std::size_t bytes) {
  for (std::size_t at = 0; at < bytes; at += kSlotBytes) {
    const std::size_t count = std::min(kSlotBytes, bytes - at);
    const Piece piece = begin(count);
    std::memcpy(piece.host, static_cast<const std::byte*>(host) + at, count);
    const cudaError_t copied =
        cudaMemcpyAsync(static_cast<std::byte*>(device) + at, piece.host, count, cudaMemcpyHostToDevice, stream_);
    end(*piece.slot);
    health_.check(copied, "copying to the device");
  }
}

void Staging::upload(const void* host, DType from, void* device, DType to, std::int64_t elements) {
  const auto size = static_cast<std::int64_t>(size_of(from));
  if (from == to) return upload(host, device, static_cast<std::size_t>(elements * size));
  // The device reads page-locked memory directly: every byte passes once, so a copy first would gain nothing.
  const std::int64_t most = static_cast<std::int64_t>(kSlotBytes) / size;
  for (std::int64_t at = 0; at < elements; at += most) {
    const std::int64_t count = std::min(most, elements - at);
    const Piece piece = begin(static_cast<std::size_t>(count * size));
    std::memcpy(piece.host, static_cast<const std::byte*>(host) + at * size, static_cast<std::size_t>(count * size));
    auto* out = static_cast<std::byte*>(device) + at * static_cast<std::int64_t>(size_of(to));
    const cudaError_t launched = convert_elements(piece.host, from, out, to, count, stream_);
    end(*piece.slot);
    health_.check(launched, "converting a weight");
  }
}

void Staging::download(const void* device, void* host, std::size_t bytes) {
  const std::lock_guard lock(download_mutex_);
  if (download_.get() == nullptr) download_ = make_pinned(health_, kDownloadBytes);
  for (std::size_t at = 0; at < bytes; at += kDownloadBytes) {
    const std::size_t count = std::min(kDownloadBytes, bytes - at);
    health_.check(cudaMemcpyAsync(download_.get(), static_cast<const std::byte*>(device) + at, count,
                                  cudaMemcpyDeviceToHost, stream_),
                  "copying from the device");
    health_.check(cudaStreamSynchronize(stream_), "waiting for the device");
    std::memcpy(static_cast<std::byte*>(host) + at, download_.get(), count);
  }
}

}  // namespace tandem::backend::cuda
