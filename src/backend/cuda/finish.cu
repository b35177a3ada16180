// out = fn(row_scales x column_scales x sums + bias) + residual: what stands behind a product of eight bits that left
// plain sums. A thread takes eight columns of a few rows, so that it reads their scales and biases once.
#include "backend/cuda/device.cuh"
#include "backend/cuda/gelu.cuh"
#include "backend/cuda/kernels.h"
#include "backend/cuda/overlap.cuh"

namespace tandem::backend::cuda {
namespace {

constexpr int kThreads = 128, kRows = 4;

struct Call {
  const void* sums;                         // [rows, columns]
  const float *row_scales, *column_scales;  // [rows], [columns]
  const float* bias;                        // [columns]; null: zero
  const __half* residual;                   // null: zero
  __half* out;
  std::int64_t rows, columns, lds, ldr, ldo;
  unsigned chunks;  ///< blocks beside each other
};

__device__ __forceinline__ void load_sums(const float* p, float (&v)[8]) {
  load8(p, v);
}
__device__ __forceinline__ void load_sums(const std::int32_t* p, float (&v)[8]) {
  const int4 a = reinterpret_cast<const int4*>(p)[0], b = reinterpret_cast<const int4*>(p)[1];
  const int words[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
#pragma unroll
  for (int i = 0; i < 8; ++i) v[i] = static_cast<float>(words[i]);
}

template <ActivationFn kFn>
__device__ __forceinline__ float apply(float x) {
  if constexpr (kFn == ActivationFn::quick_gelu) {
    return quick_gelu_fast(x);
  } else if constexpr (kFn == ActivationFn::gelu_erf) {
    return gelu_erf_fast(x);
  } else if constexpr (kFn == ActivationFn::gelu_tanh) {
    return gelu_tanh(x);
  } else {
    return x;
  }
}

template <class Sum, ActivationFn kFn>
__global__ void __launch_bounds__(kThreads) finish_kernel(const Call c) {
  const std::int64_t column = (static_cast<std::int64_t>(blockIdx.x % c.chunks) * kThreads + threadIdx.x) * 8;
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x / c.chunks) * kRows;
  const bool inside = column < c.columns;
  float scale[8], bias[8] = {};
  if (inside) {
    load8(c.column_scales + column, scale);
    if (c.bias != nullptr) load8(c.bias + column, bias);
  }
  wait_for_previous();
  let_next_begin();
  if (!inside) return;
  const Sum* const sums = static_cast<const Sum*>(c.sums) + row * c.lds + column;
  float v[kRows][8], before[kRows][8] = {};
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    if (row + r >= c.rows) continue;
    load_sums(sums + r * c.lds, v[r]);
    if (c.residual != nullptr) load8(c.residual + (row + r) * c.ldr + column, before[r]);
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    if (row + r >= c.rows) continue;
    const float row_scale = c.row_scales[row + r];
#pragma unroll
    for (int i = 0; i < 8; ++i) v[r][i] = apply<kFn>(fmaf(v[r][i], scale[i] * row_scale, bias[i])) + before[r][i];
    store8(c.out + (row + r) * c.ldo + column, v[r]);
  }
}

template <class Sum>
cudaError_t launch(const Call& c, ActivationFn fn, Queue queue) {
  const auto with = [&](auto kernel) {
    return launch_kernel(kernel, c.chunks * blocks_for(c.rows, kRows), kThreads, queue, c);
  };
  switch (fn) {
    case ActivationFn::none: return with(finish_kernel<Sum, ActivationFn::none>);
    case ActivationFn::quick_gelu: return with(finish_kernel<Sum, ActivationFn::quick_gelu>);
    case ActivationFn::gelu_erf: return with(finish_kernel<Sum, ActivationFn::gelu_erf>);
    case ActivationFn::gelu_tanh: return with(finish_kernel<Sum, ActivationFn::gelu_tanh>);
  }
  return cudaErrorInvalidValue;
}

}  // namespace

cudaError_t finish_sums(const FinishCall& a, Queue queue) {
  if (a.sums.shape.elements() == 0) return cudaSuccess;
  if (a.sums.columns() % 8 != 0) return cudaErrorInvalidValue;
  const Call c{a.sums.data,
               a.row_scales,
               a.column_scales,
               a.bias,
               a.residual.as<__half>(),
               a.out.as<__half>(),
               a.sums.rows(),
               a.sums.columns(),
               a.sums.stride,
               a.residual.stride,
               a.out.stride,
               blocks_for(a.sums.columns(), kThreads * 8)};
  if (a.sums.dtype == DType::i32) return launch<std::int32_t>(c, a.fn, queue);
  if (a.sums.dtype == DType::f32) return launch<float>(c, a.fn, queue);
  return cudaErrorInvalidValue;
}

}  // namespace tandem::backend::cuda
