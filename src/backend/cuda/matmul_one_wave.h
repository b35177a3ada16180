// Products so small that every tile has a multiprocessor of its own: those of a single image or of a few.
#pragma once

#include <optional>
#include <vector>

#include "backend/backend.h"
#include "backend/cuda/kernels.h"

namespace tandem::backend::cuda {

/// out = fn(alpha x W^T + bias) + residual, with E4M3 elements times their row's and their column's scales; rows of
/// every matrix are contiguous and begin at multiples of 16 bytes.
struct OneWaveCall {
  const void* x = nullptr;  // [rows, inputs], f16, bf16 or E4M3
  std::int64_t rows = 0, ldx = 0;
  const void* weight = nullptr;  // [outputs, inputs], of x's type
  std::int64_t outputs = 0, inputs = 0, ldw = 0;
  DType in = DType::f16;
  const float* bias = nullptr;     // [outputs]; null: zero
  const void* residual = nullptr;  // [rows, outputs] of out's type; may be out; null: zero
  std::int64_t ldr = 0;
  void* out = nullptr;  // [rows, outputs]
  std::int64_t ldo = 0;
  DType type = DType::f16;  // of out: x's, or f32; of E4M3 that, without a residual, or f16
  const float *row_scales = nullptr, *column_scales = nullptr;  // E4M3: [rows], null: ones; [outputs]
  float step = 1;                                               ///< of an E4M3 result: what is stored is out / step
  float alpha = 1;
  ActivationFn fn = ActivationFn::none;  // or quick_gelu, gelu_erf
  Ahead ahead;
};

/// How a product is divided: a block computes `rows` x `columns` of the result, from one of `parts` of the inputs.
struct OneWavePlan {
  int rows = 128, columns = 128, parts = 1;
};

/// The plan that should be fastest on a device of so many multiprocessors; none where even the
/// largest tiles are more than those.
std::optional<OneWavePlan> plan_one_wave(std::int64_t rows, std::int64_t outputs, std::int64_t inputs, int processors,
                                         DType in = DType::f16);

/// All that there are for a product, and whether a plan is one of them.
std::vector<OneWavePlan> one_wave_plans(std::int64_t rows, std::int64_t outputs, std::int64_t inputs, int processors,
                                        DType in = DType::f16);
bool one_wave_fits(const OneWavePlan& plan, std::int64_t rows, std::int64_t outputs, std::int64_t inputs,
                   int processors, DType in = DType::f16);

/// Compute capability 9.0.
cudaError_t one_wave_product(const OneWaveCall& call, const OneWavePlan& plan, Queue queue);

}  // namespace tandem::backend::cuda
