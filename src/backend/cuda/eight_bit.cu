// Numbers in E4M3 (four bits of exponent, three of fraction, up to 448) with a scale for every row: weights, the rows
// that a LayerNorm gives, and rows as they are (Micikevicius et al. 2022, "FP8 formats for deep learning").
#include "backend/cuda/device.cuh"
#include "backend/cuda/kernels.h"
#include "backend/cuda/overlap.cuh"

namespace tandem::backend::cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32;

/// Below, a row is all zeros as far as float32's range goes.
constexpr float kLeast = 1e-30f;

/// The scale of a row whose largest magnitude is `most`, and what its elements are multiplied by.
__device__ __forceinline__ float scale_of(float most) {
  return most > kLeast ? most * (1 / kLargestE4m3) : 1;
}
__device__ __forceinline__ float inverse_of(float most) {
  return most > kLeast ? kLargestE4m3 / most : 1;
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
template <class From>
__global__ void __launch_bounds__(kThreads) weight_kernel(const QuantizeWeightCall c) {
  __shared__ float parts[kWarps];
  const std::int64_t row = blockIdx.x;
  const From* weight = static_cast<const From*>(c.weight) + row * c.columns;
  float most = 0;
  for (std::int64_t i = threadIdx.x; i < c.columns; i += kThreads) most = fmaxf(most, fabsf(to_float(weight[i])));
  most = warp_max(most);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = most;
  __syncthreads();
  for (const float p : parts) most = fmaxf(most, p);
  const float inverse = inverse_of(most);
  auto* out = static_cast<__nv_fp8_e4m3*>(c.out) + row * c.columns;
  float squares = 0, shift = 0;
  for (std::int64_t i = threadIdx.x; i < c.columns; i += kThreads) {
    const float w = to_float(weight[i]);
    out[i] = __nv_fp8_e4m3(w * inverse);
    if (c.bounds == nullptr) continue;
    squares += w * c.gamma[i] * (w * c.gamma[i]);
    shift = fmaf(w, c.beta[i], shift);
  }
  if (threadIdx.x == 0) c.scales[row] = scale_of(most);
  if (c.bounds == nullptr) return;
  squares = block_sum(squares, parts), shift = block_sum(shift, parts);
  if (threadIdx.x != 0) return;
  if (c.bias != nullptr) shift += c.bias[row];
  c.bounds[row] = sqrtf(squares * static_cast<float>(c.columns)) + fabsf(shift);
}

/// A warp takes a row and reads it once. kUnits * 256 >= columns.
template <int kUnits>
__global__ void __launch_bounds__(kThreads) norm_kernel(const QuantizeRowsCall c) {
  fetch_ahead(c.ahead);
  wait_for_previous();
  let_next_begin();
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (row >= c.rows) return;
  const __half* x = static_cast<const __half*>(c.x) + row * c.ldx;
  const int first = static_cast<int>(threadIdx.x % 32) * 8, width = static_cast<int>(c.columns);
  float v[kUnits][8];
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
    if (first + u * 256 < width) load8(x + first + u * 256, v[u]);
  }
  float mean = 0, most = 0;
  const float scale = centre_row(v, first, width, c.eps, mean);
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
    const int at = first + u * 256;
    if (at < width) {
      float gamma[8], beta[8];
      load8(c.gamma + at, gamma), load8(c.beta + at, beta);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        v[u][i] = v[u][i] * scale * gamma[i] + beta[i];
        most = fmaxf(most, fabsf(v[u][i]));
      }
    }
  }
  most = warp_max(most);
  const float inverse = inverse_of(most);
  auto* out = static_cast<__nv_fp8_e4m3*>(c.out) + row * c.columns;
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
    if (first + u * 256 < width) {
#pragma unroll
      for (float& y : v[u]) y *= inverse;
      store8(out + first + u * 256, v[u]);
    }
  }
  if (threadIdx.x % 32 == 0) c.scales[row] = scale_of(most);
}

/// A warp takes a row and reads it twice.
__global__ void __launch_bounds__(kThreads) rows_kernel(const QuantizeRowsCall c) {
  wait_for_previous();
  let_next_begin();
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (row >= c.rows) return;
  const __half* x = static_cast<const __half*>(c.x) + row * c.ldx;
  auto* out = static_cast<__nv_fp8_e4m3*>(c.out) + row * c.columns;
  const std::int64_t first = static_cast<std::int64_t>(threadIdx.x % 32) * 8;
  float most = 0;
  for (std::int64_t at = first; at < c.columns; at += 256) {
    float v[8];
    load8(x + at, v);
#pragma unroll
    for (const float y : v) most = fmaxf(most, fabsf(y));
  }
  most = warp_max(most);
  const float inverse = inverse_of(most);
  for (std::int64_t at = first; at < c.columns; at += 256) {
    float v[8];
    load8(x + at, v);
#pragma unroll
    for (float& y : v) y *= inverse;
    store8(out + at, v);
  }
  if (threadIdx.x % 32 == 0) c.scales[row] = scale_of(most);
}

}  // namespace

cudaError_t quantize_weight(const QuantizeWeightCall& c, cudaStream_t stream) {
  if (c.rows == 0) return cudaSuccess;
  return with_type(c.type, [&](auto from) {
    weight_kernel<decltype(from)><<<static_cast<unsigned>(c.rows), kThreads, 0, stream>>>(c);
    return cudaGetLastError();
  });
}

cudaError_t quantize_norm(const QuantizeRowsCall& c, Queue queue) {
  if (c.rows == 0) return cudaSuccess;
  if (c.columns % 8 != 0 || c.columns > kMostFolded) return cudaErrorInvalidValue;
  return with_units<kMostFolded>(c.columns, [&](auto units) {
    return launch_kernel(norm_kernel<decltype(units)::value>, blocks_for(c.rows, kWarps), kThreads, queue, c);
  });
}

cudaError_t quantize_rows(const QuantizeRowsCall& c, Queue queue) {
  if (c.rows == 0) return cudaSuccess;
  if (c.columns % 8 != 0) return cudaErrorInvalidValue;
  return launch_kernel(rows_kernel, blocks_for(c.rows, kWarps), kThreads, queue, c);
}

}  // namespace tandem::backend::cuda
