// What NVIDIA's management library says of the GPUs in use. It belongs to the driver and is opened when it is first
// asked for: a machine without it has no GPU facts, and nothing else changes.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace tandem::telemetry {

struct GpuFacts {
  std::string index, name, uuid;  ///< index: as the management library counts, like nvidia-smi
  std::size_t used_bytes = 0, total_bytes = 0;
  std::size_t peak_bytes = 0;  ///< the most that was seen used
  double utilization = 0;      ///< 0 to 1, over the driver's last sampling period
  double power_watts = 0;
  double energy_joules = 0;  ///< since the driver was loaded; 0 where the GPU does not say
};

/// Thread-safe.
class GpuWatch {
 public:
  /// library: its file name, another one for tests.
  explicit GpuWatch(std::string library = "libnvidia-ml.so.1");
  ~GpuWatch();
  GpuWatch(const GpuWatch&) = delete;
  GpuWatch& operator=(const GpuWatch&) = delete;

  /// A device that is used: "cuda:0" counts as CUDA does, through CUDA_VISIBLE_DEVICES. Others are ignored.
  void use(const std::string& device);
  /// The GPUs in use, as they were at most a second ago. Empty without GPUs or without the library.
  std::vector<GpuFacts> facts();

 private:
  struct Library;
  const std::string name_;
  std::mutex mutex_;
  std::unique_ptr<Library> library_;
  bool tried_ = false;
  std::vector<int> wanted_;  // CUDA's ordinals
  std::vector<GpuFacts> known_;
  std::chrono::steady_clock::time_point read_at_{};
};

/// Which GPU of the management library CUDA's `ordinal` is: the entry of CUDA_VISIBLE_DEVICES, an index or the begin of
/// a UUID. visible: the variable's value, null where it is not set. Empty: there is no such device.
std::string visible_gpu(int ordinal, const char* visible);

}  // namespace tandem::telemetry
