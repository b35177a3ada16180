#include "engine/backends.h"

#include "backend/cpu/cpu_backend.h"
#include "backend/reference/reference_backend.h"
#include "base/strings.h"

namespace tandem::engine {

std::unique_ptr<backend::Backend> make_backend(DeviceId device, const ContextOptions& options, int first_core) {
  switch (device.kind) {
    case DeviceId::Kind::automatic:
    case DeviceId::Kind::cpu:
      return backend::make_cpu_backend({options.threads, options.pin_threads, "", {}, first_core});
    case DeviceId::Kind::reference: return backend::make_reference_backend();
    case DeviceId::Kind::cuda: break;
  }
  throw Error(Code::unsupported,
              cat("device ", to_string(device), " needs a build with the CUDA backend: use --device cpu"));
}

std::vector<std::string> available_devices() {
  return {"cpu"};
}

}  // namespace tandem::engine
