// Element types of weights on their way to the device.
#include <algorithm>

#include "backend/cuda/device.cuh"
#include "backend/cuda/kernels.h"
#include "backend/cuda/overlap.cuh"

namespace tandem::backend::cuda {
namespace {

constexpr int kThreads = 256;

template <class From, class To>
__global__ void convert_kernel(const From* from, To* to, std::int64_t elements) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < elements; i += step) {
    to[i] = from_float<To>(to_float(from[i]));
  }
}

}  // namespace

cudaError_t convert_elements(const void* from, DType from_type, void* to, DType to_type, std::int64_t elements,
                             cudaStream_t stream) {
  if (elements == 0) return cudaSuccess;
  return with_type(from_type, [&](auto a) {
    return with_type(to_type, [&](auto b) {
      using From = decltype(a);
      using To = decltype(b);
      const unsigned blocks = std::min(blocks_for(elements, kThreads), 4096u);
      convert_kernel<From, To>
          <<<blocks, kThreads, 0, stream>>>(static_cast<const From*>(from), static_cast<To*>(to), elements);
      return cudaGetLastError();
    });
  });
}

cudaError_t runs_here() {
  cudaFuncAttributes attributes{};
  return cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(&convert_kernel<float, float>));
}

namespace {

__global__ void round_kernel(float* x, std::int64_t elements) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < elements;
       i += static_cast<std::int64_t>(gridDim.x) * blockDim.x) {
    x[i] = nearest_tf32(x[i]);
  }
#endif
}

}  // namespace

cudaError_t round_to_tf32(float* x, std::int64_t elements, cudaStream_t stream) {
  if (elements == 0) return cudaSuccess;
  round_kernel<<<std::min(1024U, blocks_for(elements, 256)), 256, 0, stream>>>(x, elements);
  return cudaGetLastError();
}

namespace {

/// A thread takes 8 neighbouring elements of a row. kVectors: all of them are there, at a multiple of 16 bytes.
template <bool kVectors>
__global__ void __launch_bounds__(kThreads) split_kernel(const SplitCall c) {
  wait_for_previous();
  let_next_begin();
  const std::int64_t units = c.part / 8, i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= c.rows * units) return;
  const std::int64_t row = i / units, at = i % units * 8;
  const float* const from = c.x + row * c.ldx + at;
  float high[8], low[8];
  if constexpr (kVectors) {
    load8(from, low);
  } else {
#pragma unroll
    for (int k = 0; k < 8; ++k) low[k] = at + k < c.columns ? from[k] : 0;
  }
#pragma unroll
  for (int k = 0; k < 8; ++k) {
    high[k] = to_float(from_float<__nv_bfloat16>(low[k]));
    low[k] -= high[k];
  }
  __nv_bfloat16* const to = static_cast<__nv_bfloat16*>(c.out) + row * 3 * c.part + at;
  store8(to, high);
  store8(to + c.part, c.weight ? high : low);
  store8(to + 2 * c.part, c.weight ? low : high);
}

}  // namespace

cudaError_t split_rows(const SplitCall& c, Queue queue) {
  const std::int64_t work = c.rows * (c.part / 8);
  if (work == 0) return cudaSuccess;
  const bool vectors = c.columns == c.part && c.ldx % 4 == 0 && reinterpret_cast<std::uintptr_t>(c.x) % 16 == 0;
  return launch_kernel(vectors ? split_kernel<true> : split_kernel<false>, blocks_for(work, kThreads), kThreads, queue,
                       c);
}

}  // namespace tandem::backend::cuda
