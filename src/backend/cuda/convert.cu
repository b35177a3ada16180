// Element types of weights on their way to the device.
#include <algorithm>

#include "backend/cuda/device.cuh"
#include "backend/cuda/kernels.h"

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

}  // namespace tandem::backend::cuda
