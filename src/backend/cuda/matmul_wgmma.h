// Products with an activation in their epilogue, on Hopper.
#pragma once

#include "backend/backend.h"
#include "backend/cuda/matmul_wgmma_kernels.h"

namespace tandem::backend::cuda {

/// quick_gelu or gelu_erf, f16 or bf16. Compute capability 9.0.
cudaError_t fused_product(const FusedCall& call, DType type, ActivationFn fn, cudaStream_t stream);

}  // namespace tandem::backend::cuda
