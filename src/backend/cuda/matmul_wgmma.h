// Products with an activation in their epilogue, on Hopper.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "backend/backend.h"

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

/// quick_gelu or gelu_erf, f16 or bf16. Compute capability 9.0.
cudaError_t fused_product(const FusedCall& call, DType type, ActivationFn fn, cudaStream_t stream);

}  // namespace tandem::backend::cuda
