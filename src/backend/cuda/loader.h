// Finds and opens libtandem_cuda.so at run time, so that one program starts on machines with and without CUDA.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "backend/cuda/library.h"

namespace tandem::backend {

/// Whether a driver for CUDA devices is present at all: a look at the file system, so that a machine without one pays
/// nothing for asking.
bool has_cuda_driver() noexcept;

/// Opens the library: the file that the environment variable TANDEM_CUDA_LIBRARY names, or libtandem_cuda.so beside
/// the program or beside libtandem.so. It stays open for as long as the process lives: what it made may outlive every
/// owner here. Throws unsupported with what is missing and the remedy.
const cuda::CudaLibrary& load_cuda_library();

/// "NVIDIA H200" → "nvidia-h200.tuning": the file of a device's measured choices.
std::string tuning_name(const std::string& device_name);

/// load_cuda_library().make_backend(index, options), with the choices that were measured on such a device:
/// the file that the environment variable TANDEM_TUNING names (empty: none), or tuning/ beside the library.
std::unique_ptr<Backend> make_cuda_backend(int index, const cuda::CudaOptions& options = {});

}  // namespace tandem::backend
