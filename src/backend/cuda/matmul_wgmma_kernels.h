// The instantiations of the fused products, one file each (made by CMake from matmul_wgmma_one.cu.in).
#pragma once

#include "backend/cuda/matmul_wgmma.h"

namespace tandem::backend::cuda::wgmma {

#define TANDEM_FUSED(shape)                                                   \
  cudaError_t shape##_f16_quick(const FusedCall& call, cudaStream_t stream);  \
  cudaError_t shape##_f16_erf(const FusedCall& call, cudaStream_t stream);    \
  cudaError_t shape##_bf16_quick(const FusedCall& call, cudaStream_t stream); \
  cudaError_t shape##_bf16_erf(const FusedCall& call, cudaStream_t stream);
TANDEM_FUSED(wide)
TANDEM_FUSED(small)
#undef TANDEM_FUSED

}  // namespace tandem::backend::cuda::wgmma
