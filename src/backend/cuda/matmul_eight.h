// Products of E4M3 on Hopper.
#pragma once

#include "backend/backend.h"
#include "backend/cuda/kernels.h"

namespace tandem::backend::cuda {

/// out = fn(alpha (row_scales x columns' scales) (x W^T) + bias) + residual, where x and W are E4M3. Sums by fast
/// accumulation, then float32; what fn is applied to is rounded to f16. Addresses and strides are multiples of 16
/// bytes.
struct EightCall {
  const void* x = nullptr;  // E4M3 [rows, inputs]
  std::int64_t rows = 0, ldx = 0;
  const void* weight = nullptr;  // E4M3 [outputs, inputs]
  std::int64_t outputs = 0, inputs = 0, ldw = 0;
  const float* row_scales = nullptr;     // [rows]; null: ones
  const float* column_scales = nullptr;  // [outputs]
  float alpha = 1;
  const float* bias = nullptr;     // [outputs]; null: zero
  const void* residual = nullptr;  // f16 [rows, outputs]; may be out; null: zero
  std::int64_t ldr = 0;
  void* out = nullptr;  // [rows, outputs]
  std::int64_t ldo = 0;
  DType type = DType::f16;               // of out, or f8e4m3, without a residual
  float step = 1;                        ///< of an E4M3 result: what is stored is out / step, at most 448
  ActivationFn fn = ActivationFn::none;  // or quick_gelu, gelu_erf
  int processors = 1;
  Ahead ahead;
};

/// Products of many tiles, `columns` (128 or 256) beside each other (matmul_wide.cuh): whether there are inputs and
/// outputs enough, and how many tiles one multiprocessor computes at most.
bool eight_wide_fits(const EightCall& call, int columns);
double eight_wide_waves(const EightCall& call, int columns);
/// Compute capability 9.0.
cudaError_t eight_wide_product(const EightCall& call, int columns, Queue queue);

}  // namespace tandem::backend::cuda
