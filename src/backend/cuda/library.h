// What libtandem_cuda.so gives to the program that opens it. Nothing of CUDA stands here: the program is built and
// started where no CUDA is installed.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "backend/backend.h"

namespace tandem::backend::cuda {

struct CudaDevice {
  int index = 0;
  std::string name;          ///< "NVIDIA H200"
  std::size_t memory = 0;    ///< bytes of the whole device
  int major = 0, minor = 0;  ///< compute capability
  int multiprocessors = 0;
};

struct CudaOptions {
  bool graphs = true;  ///< record passes that come again, and issue them at once
  /// Receives what a person should know, once: from any thread. May be empty.
  std::function<void(std::string_view)> warn = {};
  /// Leave out what Hopper alone has, so that what other devices compute with can be tried on one.
  bool portable = false;
};

class CudaLibrary {
 public:
  virtual ~CudaLibrary() = default;
  /// The devices that the driver shows, by index. Throws unavailable when the driver is missing or too old.
  virtual std::vector<CudaDevice> devices() const = 0;
  /// A backend on one device with a stream of its own. Throws unsupported for a device that is not there or whose
  /// architecture this library was not built for.
  virtual std::unique_ptr<Backend> make_backend(int index, const CudaOptions& options) const = 0;
};

/// The one name that the library exports. `abi` is the caller's TANDEM_CUDA_ABI: a digest of the headers whose types
/// cross the boundary. Null when the library was built with others; `*built` then says with which.
using CudaEntry = const CudaLibrary* (*)(const char* abi, const char** built);
inline constexpr const char* kCudaEntry = "tandem_cuda_library";

}  // namespace tandem::backend::cuda
