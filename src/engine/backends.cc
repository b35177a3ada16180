#include "engine/backends.h"

#include "backend/cpu/cpu_backend.h"
#include "backend/cuda/loader.h"
#include "backend/reference/reference_backend.h"
#include "base/strings.h"

namespace tandem::engine {
namespace {

/// The devices of the CUDA library; none where there is no driver, or where the library cannot be opened: then `why`.
std::vector<backend::cuda::CudaDevice> cuda_devices(std::string& why) {
  if (!backend::has_cuda_driver()) return {};
  try {
    return backend::load_cuda_library().devices();
  } catch (const Error& error) {
    why = error.what();
    return {};
  }
}

}  // namespace

DeviceId resolve(DeviceId device, const ContextOptions& options) {
  if (device.kind != DeviceId::Kind::automatic) return device;
  std::string why;
  device = {cuda_devices(why).empty() ? DeviceId::Kind::cpu : DeviceId::Kind::cuda, 0};
  if (!why.empty() && options.log) options.log(2, cat("computing on the processor: ", why));
  return device;
}

bool is_divided(DeviceId device) {
  return device.kind == DeviceId::Kind::cpu && backend::cpu_passes_divide_threads();
}

std::unique_ptr<backend::Backend> make_backend(DeviceId device, const ContextOptions& options, const Place& place) {
  device = resolve(device, options);
  switch (device.kind) {
    case DeviceId::Kind::automatic:
    case DeviceId::Kind::cpu:
      return backend::make_cpu_backend({options.threads, options.pin_threads, "", {}, place.first_core, place.shared});
    case DeviceId::Kind::reference: return backend::make_reference_backend();
    case DeviceId::Kind::cuda: {
      backend::cuda::CudaOptions cuda{options.graphs, {}};
      if (options.log) cuda.warn = [log = options.log](std::string_view message) { log(2, message); };
      return backend::make_cuda_backend(device.index, cuda);
    }
  }
  throw Error(Code::internal, cat("no backend for the device ", to_string(device)));
}

std::vector<std::string> available_devices() {
  std::vector<std::string> out;
  std::string why;
  for (const auto& device : cuda_devices(why)) out.push_back(cat("cuda:", device.index));
  out.emplace_back("cpu");
  return out;
}

std::vector<DeviceId> parse_devices(std::string_view names) {
  std::vector<DeviceId> out;
  if (names != "all") {
    for (const std::string& name : split_list(names)) out.push_back(parse_device(name));
    if (out.empty()) throw Error(Code::invalid_argument, "no device is named: give one such as auto, cpu or cuda:0");
    return out;
  }
  auto all = available_devices();
  if (all.size() > 1) all.pop_back();  // the processor has its hands full with pictures for the GPUs
  for (const std::string& name : all) out.push_back(parse_device(name));
  return out;
}

}  // namespace tandem::engine
