// The one place that names concrete backends.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "backend/backend.h"
#include "backend/shared_cores.h"
#include "tandem/context.h"

namespace tandem::engine {

/// Where on a processor a backend computes.
struct Place {
  int first_core = 0;  ///< with pinned threads: where among the usable cores its team begins
  std::shared_ptr<backend::SharedCores> shared = {};  ///< backend::CpuOptions::shared
};

/// The backend for a device, as resolve() says. Throws unsupported with the remedy.
std::unique_ptr<backend::Backend> make_backend(DeviceId device, const ContextOptions& options, const Place& place = {});

/// `automatic` is the best that this build and machine have; others are themselves.
DeviceId resolve(DeviceId device, const ContextOptions& options);

/// Whether it, as resolve() said, is a processor that several replicas can have together (Place::shared).
bool is_divided(DeviceId device);

/// Devices that make_backend() would accept here, best first: "cuda:0", "cpu".
std::vector<std::string> available_devices();

/// "cuda:0,cuda:1": each of them as parse_device() takes it; "all": every GPU of this machine, or its processor where
/// there is none. Throws invalid_argument.
std::vector<DeviceId> parse_devices(std::string_view names);

}  // namespace tandem::engine
