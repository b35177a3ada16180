// A backend on one GPU.
#pragma once

#include <memory>

#include "backend/cuda/library.h"

namespace tandem::backend::cuda {

std::unique_ptr<Backend> make_backend_on(const CudaDevice& device, const CudaOptions& options);

}  // namespace tandem::backend::cuda
