// Numbers in E4M3 (four bits of exponent, three of fraction, up to 448; Micikevicius et al. 2022, "FP8 formats for deep
// learning") or int8 (whole numbers up to 127) with a scale for every row: weights, the rows that a LayerNorm gives,
// and rows as they are.
#include "backend/cuda/device.cuh"
#include "backend/cuda/kernels.h"
#include "backend/cuda/overlap.cuh"

namespace tandem::backend::cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32;

/// Below, a row is all zeros as far as float32's range goes.
constexpr float kLeast = 1e-30f;

using E4m3 = __nv_fp8_e4m3;
template <class T>
constexpr float kLargest = std::is_same_v<T, E4m3> ? kLargestE4m3 : 127;

/// Calls f with a value of the eight-bit type that `type` names.
template <class F>
cudaError_t with_eight(DType type, const F& f) {
  if (type == DType::f8e4m3) return f(E4m3{});
  if (type == DType::i8) return f(std::int8_t{});
  return cudaErrorInvalidValue;
}

/// What a row is divided by, and what its elements are multiplied by.
struct Step {
  float scale, inverse;
};
/// Of a row whose largest magnitude is `most`; a static one where `step` is not 0.
template <class T>
__device__ __forceinline__ Step step_of(float most, float step = 0) {
  if (step > 0) return {step, 1 / step};
  return most > kLeast ? Step{most * (1 / kLargest<T>), kLargest<T> / most} : Step{1, 1};
}

/// Adds nothing to `poison`, or NaN where v is not finite: int8 has no element that says so, and its row's scale does.
template <class T>
__device__ __forceinline__ void look_at(float v, float& most, float& poison) {
  most = fmaxf(most, fabsf(v));
  if constexpr (std::is_same_v<T, std::int8_t>) poison = fmaf(v, 0.0f, poison);
}

__device__ float block_sum(float v, float (&parts)[kWarps]) {
  v = warp_sum(v);
  __syncthreads();
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = v;
  __syncthreads();
  float sum = 0;
  for (const float p : parts) sum += p;
  return sum;
}

/// A block takes a row of the weight.
template <class From, class T>
__global__ void __launch_bounds__(kThreads) weight_kernel(const QuantizeWeightCall c) {
  __shared__ float parts[kWarps];
  const std::int64_t row = blockIdx.x;
  const From* weight = static_cast<const From*>(c.weight) + row * c.columns;
  const float given = c.given ? c.scales[row] : 0;  // before a thread writes it
  float most = 0, poison = 0;
  for (std::int64_t i = threadIdx.x; i < c.columns; i += kThreads) look_at<T>(to_float(weight[i]), most, poison);
  most = warp_max(most);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = most;
  __syncthreads();
  for (const float p : parts) most = fmaxf(most, p);
  poison = block_sum(poison, parts);
  const Step step = step_of<T>(most, given);
  T* out = static_cast<T*>(c.out) + row * c.columns;
  float squares = 0, shift = 0;
  for (std::int64_t i = threadIdx.x; i < c.columns; i += kThreads) {
    const float w = to_float(weight[i]);
    out[i] = from_float<T>(w * step.inverse);
    if (c.bounds == nullptr) continue;
    squares += w * c.gamma[i] * (w * c.gamma[i]);
    shift = fmaf(w, c.beta[i], shift);
  }
  if (threadIdx.x == 0) c.scales[row] = step.scale + poison;
  if (c.bounds == nullptr) return;
  squares = block_sum(squares, parts), shift = block_sum(shift, parts);
  if (threadIdx.x != 0) return;
  if (c.bias != nullptr) shift += c.bias[row];
  c.bounds[row] = sqrtf(squares * static_cast<float>(c.columns)) + fabsf(shift);
}

/// A warp takes a row and reads it once. kUnits * 256 >= columns. kEarly: where rows are few, gamma and beta come from
/// memory that is far away, one row after the other; they are read while the kernel in front still runs.
template <class T, int kUnits, bool kEarly>
__global__ void __launch_bounds__(kThreads) norm_kernel(const QuantizeRowsCall c) {
  const int first = static_cast<int>(threadIdx.x % 32) * 8, width = static_cast<int>(c.columns);
  float early[kEarly ? kUnits : 1][2][8];
  if constexpr (kEarly) {
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
      const int at = first + u * 256;
      if (at < width) load8(c.gamma + at, early[u][0]), load8(c.beta + at, early[u][1]);
    }
  }
  fetch_ahead(c.ahead);
  wait_for_previous();
  let_next_begin();
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (row >= c.rows) return;
  const __half* x = static_cast<const __half*>(c.x) + row * c.ldx;
  float v[kUnits][8];
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
    if (first + u * 256 < width) load8(x + first + u * 256, v[u]);
  }
  float mean = 0, most = 0, poison = 0;
  const float scale = centre_row(v, first, width, c.eps, mean);
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
    const int at = first + u * 256;
    if (at < width) {
      float given[2][8];
      if constexpr (!kEarly) load8(c.gamma + at, given[0]), load8(c.beta + at, given[1]);
      const auto& [gamma, beta] = kEarly ? early[kEarly ? u : 0] : given;
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        v[u][i] = v[u][i] * scale * gamma[i] + beta[i];
        look_at<T>(v[u][i], most, poison);
      }
    }
  }
  most = warp_max(most);
  if constexpr (std::is_same_v<T, std::int8_t>) poison = warp_sum(poison);
  const Step step = step_of<T>(most, c.step);
  T* out = static_cast<T*>(c.out) + row * c.columns;
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
    if (first + u * 256 < width) {
#pragma unroll
      for (float& y : v[u]) y *= step.inverse;
      store8(out + first + u * 256, v[u]);
    }
  }
  if (threadIdx.x % 32 == 0) c.scales[row] = step.scale + poison;
}

/// A warp takes a row and reads it twice.
template <class T>
__global__ void __launch_bounds__(kThreads) rows_kernel(const QuantizeRowsCall c) {
  wait_for_previous();
  let_next_begin();
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (row >= c.rows) return;
  const __half* x = static_cast<const __half*>(c.x) + row * c.ldx;
  T* out = static_cast<T*>(c.out) + row * c.columns;
  const std::int64_t first = static_cast<std::int64_t>(threadIdx.x % 32) * 8;
  float most = 0, poison = 0;
  for (std::int64_t at = first; at < c.columns; at += 256) {
    float v[8];
    load8(x + at, v);
#pragma unroll
    for (const float y : v) look_at<T>(y, most, poison);
  }
  most = warp_max(most);
  if constexpr (std::is_same_v<T, std::int8_t>) poison = warp_sum(poison);
  const Step step = step_of<T>(most, c.step);
  for (std::int64_t at = first; at < c.columns; at += 256) {
    float v[8];
    load8(x + at, v);
#pragma unroll
    for (float& y : v) y *= step.inverse;
    store8(out + at, v);
  }
  if (threadIdx.x % 32 == 0) c.scales[row] = step.scale + poison;
}

}  // namespace

cudaError_t quantize_weight(const QuantizeWeightCall& c, cudaStream_t stream) {
  if (c.rows == 0) return cudaSuccess;
  return with_eight(c.to, [&](auto to) {
    return with_type(c.type, [&](auto from) {
      weight_kernel<decltype(from), decltype(to)><<<static_cast<unsigned>(c.rows), kThreads, 0, stream>>>(c);
      return cudaGetLastError();
    });
  });
}

cudaError_t quantize_norm(const QuantizeRowsCall& c, Queue queue) {
  if (c.rows == 0) return cudaSuccess;
  if (c.columns % 8 != 0 || c.columns > kMostFolded) return cudaErrorInvalidValue;
  return with_eight(c.type, [&](auto to) {
    using T = decltype(to);
    return with_units<kMostFolded>(c.columns, [&](auto units) {
      constexpr int kUnits = decltype(units)::value;
      return launch_kernel(c.rows <= kFewRows ? norm_kernel<T, kUnits, true> : norm_kernel<T, kUnits, false>,
                           blocks_for(c.rows, kWarps), kThreads, queue, c);
    });
  });
}

cudaError_t quantize_rows(const QuantizeRowsCall& c, Queue queue) {
  if (c.rows == 0) return cudaSuccess;
  if (c.columns % 8 != 0) return cudaErrorInvalidValue;
  return with_eight(c.type, [&](auto to) {
    return launch_kernel(rows_kernel<decltype(to)>, blocks_for(c.rows, kWarps), kThreads, queue, c);
  });
}

}  // namespace tandem::backend::cuda
