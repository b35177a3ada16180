// The instantiations of the fused products, one file each (made by CMake from matmul_wgmma_one.cu.in). They take the
// longest to compile, so nothing that changes often is included here.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace tandem::backend::cuda {

/// out = fn(x W^T + bias); x, W, bias and out in one sixteen-bit type, sums in float32. Addresses and strides are
/// multiples of 16 bytes.
struct FusedCall {
  const void* x = nullptr;  // [rows, inputs]
  std::int64_t rows = 0, ldx = 0;
  const void* weight = nullptr;  // [outputs, inputs]
  std::int64_t outputs = 0, inputs = 0, ldw = 0;
  const void* bias = nullptr;  // [outputs]
  void* out = nullptr;         // [rows, outputs]
  std::int64_t ldo = 0;
  int device = 0, processors = 0;
};

}  // namespace tandem::backend::cuda

namespace tandem::backend::cuda::wgmma {

cudaError_t wide_f16_quick(const FusedCall& call, cudaStream_t stream);
cudaError_t wide_f16_erf(const FusedCall& call, cudaStream_t stream);
cudaError_t wide_bf16_quick(const FusedCall& call, cudaStream_t stream);
cudaError_t wide_bf16_erf(const FusedCall& call, cudaStream_t stream);

}  // namespace tandem::backend::cuda::wgmma
