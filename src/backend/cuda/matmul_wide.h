// Products of many rows with a LayerNorm in front of them or an activation behind.
#pragma once

#include "backend/backend.h"
#include "backend/cuda/kernels.h"

namespace tandem::backend::cuda {

/// out = fn(x W^T + bias), or, with `scale`, fn(scale (x W^T) + shift sums^T + bias) (norm_fold.cu). Sums in float32;
/// what fn is applied to is rounded to out's type. Addresses and strides are multiples of 16 bytes.
struct WideCall {
  const void* x = nullptr;  // [rows, inputs], f16 or bf16
  std::int64_t rows = 0, ldx = 0;
  const void* weight = nullptr;  // [outputs, inputs], of x's type
  std::int64_t outputs = 0, inputs = 0, ldw = 0;
  DType type = DType::f16;                         // of x, weight and out
  const float* bias = nullptr;                     // [outputs]; null: zero
  const float *scale = nullptr, *shift = nullptr;  // [rows]; null: x is multiplied as it is
  const float* sums = nullptr;                     // [outputs]
  void* out = nullptr;                             // [rows, outputs]
  std::int64_t ldo = 0;
  ActivationFn fn = ActivationFn::none;  // or quick_gelu, gelu_erf
  int processors = 1;
};

/// Whether there are inputs and outputs enough.
bool wide_fits(std::int64_t rows, std::int64_t outputs, std::int64_t inputs);
/// Whether the tiles keep all multiprocessors busy, to the end or nearly so.
bool wide_fills(std::int64_t rows, std::int64_t outputs, int processors);
/// Compute capability 9.0.
cudaError_t wide_product(const WideCall& call, Queue queue);

}  // namespace tandem::backend::cuda
