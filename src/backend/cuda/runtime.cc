#include "backend/cuda/runtime.h"

#include "base/strings.h"

namespace tandem::backend::cuda {
namespace {

/// The context is gone after these: only a new process, or a reset of the device, brings it back.
bool is_sticky(cudaError_t e) {
  switch (e) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorContextIsDestroyed:
    case cudaErrorDevicesUnavailable:
    case cudaErrorUnknown: return true;
    default: return false;
  }
}

Error error_of(cudaError_t e, const char* what) {
  const Code code = e == cudaErrorMemoryAllocation ? Code::out_of_memory : Code::device_failure;
  return {code, cat("CUDA: ", what, ": ", cudaGetErrorString(e), " (", cudaGetErrorName(e), ")",
                    is_sticky(e) ? "; the device must be opened by a new process" : "")};
}

}  // namespace

void check(cudaError_t result, const char* what) {
  if (result == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());
  throw error_of(result, what);
}

void Health::check(cudaError_t result, const char* what) {
  if (result == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());  // what is not sticky is forgotten with this
  if (is_sticky(result)) {
    const std::lock_guard lock(mutex_);
    if (!first_) first_ = error_of(result, what);
  }
  throw error_of(result, what);
}

void Health::fail(const std::string& message) {
  // A failure of a library may be the echo of an earlier launch: then that is what happened.
  check(cudaGetLastError(), message.c_str());
  throw Error(Code::device_failure, message);
}

void Health::enter() {
  {
    const std::lock_guard lock(mutex_);
    if (first_) throw Error(*first_);
  }
  check(cudaSetDevice(device_), "selecting the device");
}

bool Health::dead() const {
  const std::lock_guard lock(mutex_);
  return first_.has_value();
}

std::vector<CudaDevice> list_devices() {
  int count = 0;
  const cudaError_t found = cudaGetDeviceCount(&count);
  if (found != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    if (found == cudaErrorNoDevice) return {};
    int driver = 0, runtime = 0;
    static_cast<void>(cudaDriverGetVersion(&driver));
    static_cast<void>(cudaRuntimeGetVersion(&runtime));
    const auto version = [](int v) { return cat(v / 1000, ".", v % 1000 / 10); };
    if (driver == 0) throw Error(Code::unsupported, "no NVIDIA driver was found: install one, or use --device cpu");
    throw Error(Code::unsupported,
                cat("CUDA: ", cudaGetErrorString(found), " (driver for ", version(driver), ", this build for ",
                    version(runtime), "): install a newer driver, or use --device cpu"));
  }
  std::vector<CudaDevice> out;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp p{};
    check(cudaGetDeviceProperties(&p, i), "reading a device's properties");
    out.push_back({i, p.name, p.totalGlobalMem, p.major, p.minor, p.multiProcessorCount});
  }
  return out;
}

Buffer allocate_device(Health& health, int device, std::size_t bytes) {
  if (bytes == 0) return {};
  void* memory = nullptr;
  const cudaError_t result = cudaMalloc(&memory, bytes);
  if (result == cudaErrorMemoryAllocation) {
    static_cast<void>(cudaGetLastError());
    std::size_t free = 0, total = 0;
    static_cast<void>(cudaMemGetInfo(&free, &total));
    throw Error(Code::out_of_memory, cat("cuda:", device, " cannot give ", bytes, " bytes: ", free, " of ", total,
                                         " are free; use a smaller batch, model or precision"));
  }
  health.check(result, "allocating memory");
  const auto held = health.count()->held += bytes;
  std::size_t peak = health.count()->peak;
  while (peak < held && !health.count()->peak.compare_exchange_weak(peak, held)) {
  }
  const auto release = [device, bytes, count = health.count()](std::byte* p) {
    count->held -= bytes;
    int before = 0;
    static_cast<void>(cudaGetDevice(&before));
    static_cast<void>(cudaSetDevice(device));
    static_cast<void>(cudaFree(p));
    static_cast<void>(cudaSetDevice(before));
  };
  return {static_cast<std::byte*>(memory), bytes, release};
}

void make_room(Health& health, int device, cudaStream_t stream, std::size_t bytes, Buffer& memory) {
  if (memory.bytes() >= bytes) return;
  health.check(cudaStreamSynchronize(stream), "waiting for the device");
  memory = {};
  memory = allocate_device(health, device, bytes);
}

Stream make_stream(Health& health) {
  cudaStream_t stream = nullptr;
  health.check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating a stream");
  return Stream(stream);
}

Event make_event(Health& health, bool times) {
  cudaEvent_t event = nullptr;
  health.check(cudaEventCreateWithFlags(&event, times ? cudaEventDefault : cudaEventDisableTiming),
               "creating an event");
  return Event(event);
}

Pinned make_pinned(Health& health, std::size_t bytes) {
  void* memory = nullptr;
  health.check(cudaMallocHost(&memory, bytes), "allocating page-locked host memory");
  return Pinned(memory);
}

}  // namespace tandem::backend::cuda
