// A LayerNorm inside of the product that reads it. With W' = W diag(gamma), s = the sums of its rows, b' = b + W beta:
//
//   ln(x) W^T + b = rstd (x W'^T - mean s^T) + b'           per row, since ln(x) = (x - mean) rstd gamma + beta
//
// (Ba, Kiros, Hinton 2016, "Layer Normalization"), so that the product reads x itself and its epilogue does the rest.
// The normalised rows are neither written nor read, and what was their rounding to sixteen bits is now that of W'. s
// are the sums of W' as it is stored: then a constant added to a row changes nothing but the rounding of float32.
#include "backend/cuda/device.cuh"
#include "backend/cuda/kernels.h"
#include "backend/cuda/overlap.cuh"

namespace tandem::backend::cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32;

/// A block takes a row of the weight.
template <class From>
__global__ void __launch_bounds__(kThreads) fold_kernel(const FoldCall c) {
  __shared__ float parts[2][kWarps];
  const std::int64_t row = blockIdx.x;
  const From* weight = static_cast<const From*>(c.weight) + row * c.columns;
  __half* out = static_cast<__half*>(c.out) + row * c.columns;
  float sum = 0, shift = 0;
  for (std::int64_t i = threadIdx.x; i < c.columns; i += kThreads) {
    const float w = to_float(weight[i]);
    const __half folded = __float2half_rn(w * c.gamma[i]);
    out[i] = folded;
    sum += __half2float(folded);
    shift = fmaf(w, c.beta[i], shift);
  }
  sum = warp_sum(sum), shift = warp_sum(shift);
  if (threadIdx.x % 32 == 0) parts[0][threadIdx.x / 32] = sum, parts[1][threadIdx.x / 32] = shift;
  __syncthreads();
  if (threadIdx.x != 0) return;
  sum = 0, shift = 0;
  for (int i = 0; i < kWarps; ++i) sum += parts[0][i], shift += parts[1][i];
  c.sums[row] = sum;
  c.bias[row] += shift;
}

/// A warp takes a row and reads it once. kUnits * 256 >= columns.
template <int kUnits>
__global__ void __launch_bounds__(kThreads) statistics_kernel(const RowStatisticsCall c) {
  wait_for_previous();
  let_next_begin();
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (row >= c.rows) return;
  const __half* x = static_cast<const __half*>(c.x) + row * c.ldx;
  const int first = static_cast<int>(threadIdx.x % 32) * 8;
  float v[kUnits][8];
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
    if (first + u * 256 < c.columns) load8(x + first + u * 256, v[u]);
  }
  float mean = 0;
  const float scale = centre_row(v, first, static_cast<int>(c.columns), c.eps, mean);
  if (threadIdx.x % 32 == 0) c.scale[row] = scale, c.shift[row] = -mean * scale;
}

}  // namespace

cudaError_t fold_norm(const FoldCall& c, cudaStream_t stream) {
  if (c.rows == 0) return cudaSuccess;
  return with_type(c.type, [&](auto from) {
    fold_kernel<decltype(from)><<<static_cast<unsigned>(c.rows), kThreads, 0, stream>>>(c);
    return cudaGetLastError();
  });
}

cudaError_t row_statistics(const RowStatisticsCall& c, Queue queue) {
  if (c.rows == 0) return cudaSuccess;
  if (c.columns % 8 != 0 || c.columns > kMostFolded) return cudaErrorInvalidValue;
  return with_units<kMostFolded>(c.columns, [&](auto units) {
    return launch_kernel(statistics_kernel<decltype(units)::value>, blocks_for(c.rows, kWarps), kThreads, queue, c);
  });
}

}  // namespace tandem::backend::cuda
