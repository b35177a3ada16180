#include "telemetry/gpu_watch.h"

#include <algorithm>
#include <cstdlib>
#include <optional>

#include "base/dynamic_library.h"
#include "base/strings.h"

namespace tandem::telemetry {
namespace {

// The few declarations of NVIDIA's NVML API reference that are needed, as its documentation gives them.
using Device = void*;
struct Memory {
  unsigned long long total, free, used;
};
struct Utilization {
  unsigned gpu, memory;
};
constexpr int kSuccess = 0;

constexpr auto kFresh = std::chrono::seconds(1);

}  // namespace

struct GpuWatch::Library {
  explicit Library(const std::string& name) : file(name) {
    const bool complete = file.find("nvmlInit_v2", init) && file.find("nvmlShutdown", shutdown) &&
                          file.find("nvmlDeviceGetCount_v2", count) &&
                          file.find("nvmlDeviceGetHandleByIndex_v2", by_index) &&
                          file.find("nvmlDeviceGetMemoryInfo", memory);
    file.find("nvmlDeviceGetUtilizationRates", utilization), file.find("nvmlDeviceGetPowerUsage", power);
    file.find("nvmlDeviceGetTotalEnergyConsumption", energy);
    file.find("nvmlDeviceGetName", device_name), file.find("nvmlDeviceGetUUID", uuid);
    ready = complete && init() == kSuccess;
  }
  ~Library() {
    if (ready) shutdown();
  }
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  std::string text(int (*get)(Device, char*, unsigned), Device device) const {
    char buffer[128] = {};
    return get != nullptr && get(device, buffer, sizeof buffer - 1) == kSuccess ? buffer : "";
  }

  /// By index or by the begin of its UUID.
  std::optional<GpuFacts> read(const std::string& which) const {
    unsigned devices = 0;
    if (count(&devices) != kSuccess) return std::nullopt;
    for (unsigned i = 0; i < devices; ++i) {
      Device device = nullptr;
      if (by_index(i, &device) != kSuccess) continue;
      GpuFacts facts;
      facts.index = std::to_string(i), facts.uuid = text(uuid, device);
      if (which != facts.index && (which.size() < 5 || !facts.uuid.starts_with(which))) continue;
      facts.name = text(device_name, device);
      Memory bytes{};
      if (memory(device, &bytes) != kSuccess) return std::nullopt;
      facts.used_bytes = bytes.used, facts.total_bytes = bytes.total;
      Utilization busy{};
      if (utilization != nullptr && utilization(device, &busy) == kSuccess) facts.utilization = busy.gpu / 100.0;
      unsigned milliwatts = 0;
      if (power != nullptr && power(device, &milliwatts) == kSuccess) facts.power_watts = milliwatts / 1000.0;
      unsigned long long millijoules = 0;
      if (energy != nullptr && energy(device, &millijoules) == kSuccess) {
        facts.energy_joules = static_cast<double>(millijoules) / 1000;
      }
      return facts;
    }
    return std::nullopt;
  }

  const DynamicLibrary file;
  bool ready = false;
  int (*init)() = nullptr;
  int (*shutdown)() = nullptr;
  int (*count)(unsigned*) = nullptr;
  int (*by_index)(unsigned, Device*) = nullptr;
  int (*memory)(Device, Memory*) = nullptr;
  int (*utilization)(Device, Utilization*) = nullptr;
  int (*power)(Device, unsigned*) = nullptr;
  int (*energy)(Device, unsigned long long*) = nullptr;
  int (*device_name)(Device, char*, unsigned) = nullptr;
  int (*uuid)(Device, char*, unsigned) = nullptr;
};

GpuWatch::GpuWatch(std::string library) : name_(std::move(library)) {}
GpuWatch::~GpuWatch() = default;

void GpuWatch::use(const std::string& device) {
  if (!device.starts_with("cuda")) return;
  const std::size_t colon = device.find(':');
  const int ordinal = colon == std::string::npos ? 0 : std::atoi(device.c_str() + colon + 1);
  const std::lock_guard lock(mutex_);
  if (std::find(wanted_.begin(), wanted_.end(), ordinal) == wanted_.end()) wanted_.push_back(ordinal);
}

std::vector<GpuFacts> GpuWatch::facts() {
  const std::lock_guard lock(mutex_);
  if (wanted_.empty()) return {};
  if (!tried_) {
    tried_ = true;
    library_ = std::make_unique<Library>(name_);
  }
  if (!library_->ready) return {};
  const auto now = std::chrono::steady_clock::now();
  if (read_at_ != std::chrono::steady_clock::time_point() && now - read_at_ < kFresh) return known_;
  read_at_ = now;
  std::vector<GpuFacts> fresh;
  for (const int ordinal : wanted_) {
    const std::string which = visible_gpu(ordinal, std::getenv("CUDA_VISIBLE_DEVICES"));
    std::optional<GpuFacts> one = which.empty() ? std::nullopt : library_->read(which);
    if (!one) continue;
    one->peak_bytes = one->used_bytes;
    for (const GpuFacts& before : known_) {
      if (before.index == one->index) one->peak_bytes = std::max(one->peak_bytes, before.peak_bytes);
    }
    fresh.push_back(std::move(*one));
  }
  return known_ = std::move(fresh);
}

std::string visible_gpu(int ordinal, const char* visible) {
  if (visible == nullptr) return std::to_string(ordinal);
  const std::vector<std::string> list = split_list(visible);
  return ordinal >= 0 && static_cast<std::size_t>(ordinal) < list.size() ? list[static_cast<std::size_t>(ordinal)] : "";
}

}  // namespace tandem::telemetry
