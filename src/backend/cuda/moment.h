// Points in a stream's order whose times can be compared.
#pragma once

#include <memory>

#include "backend/backend.h"
#include "backend/cuda/runtime.h"

namespace tandem::backend::cuda {

/// Recorded now. `health` must outlive it.
std::unique_ptr<Moment> make_moment(Health& health, cudaStream_t stream);

/// The stream does nothing else for so long: one thread waits.
cudaError_t linger(double milliseconds, cudaStream_t stream);

}  // namespace tandem::backend::cuda
