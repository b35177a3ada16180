// Kernels that begin before the one in front of them has ended (programmatic dependent launch, compute capability 9.0;
// CUDA C++ Programming Guide, "Programmatic Dependent Launch and Synchronization").
#pragma once

#include "backend/cuda/kernels.h"

namespace tandem::backend::cuda {

/// Returns when all kernels in front of this one have ended and what they wrote can be read. A kernel that
/// launch_kernel() starts calls it before it touches what others write or read, and in every block, whatever its path:
/// only so does the end of one kernel say that all before it have ended.
__device__ __forceinline__ void wait_for_previous() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// From now on the kernel behind this one may begin where multiprocessors have room for it.
__device__ __forceinline__ void let_next_begin() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/// 128 bytes into the second-level cache.
__device__ __forceinline__ void fetch_line(const void* p) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(p));
}

/// Every thread of the grid calls it, before wait_for_previous().
__device__ __forceinline__ void fetch_ahead(const Ahead& ahead) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned threads = gridDim.x * gridDim.y * gridDim.z * blockDim.x;
  for (unsigned i = block * blockDim.x + threadIdx.x; i < ahead.lines; i += threads) {
    fetch_line(ahead.data + static_cast<std::size_t>(i) * 128);
  }
}

/// Launches a kernel that calls wait_for_previous(), in clusters of `cluster` blocks; `shared` may be more than devices
/// give unasked.
template <class... Parameters, class... Arguments>
cudaError_t launch_kernel(void (*kernel)(Parameters...), dim3 grid, int threads, int shared, Queue queue, dim3 cluster,
                          const Arguments&... arguments) {
  if (shared > 0) {
    const cudaError_t allowed = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
    if (allowed != cudaSuccess) return allowed;
  }
  cudaLaunchAttribute attributes[2];
  cudaLaunchConfig_t config{};
  config.gridDim = grid, config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = static_cast<std::size_t>(shared), config.stream = queue.stream;
  config.attrs = attributes;
  if (queue.overlap) {
    attributes[config.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[config.numAttrs++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (cluster.x * cluster.y * cluster.z > 1) {
    attributes[config.numAttrs].id = cudaLaunchAttributeClusterDimension;
    attributes[config.numAttrs].val.clusterDim.x = cluster.x;
    attributes[config.numAttrs].val.clusterDim.y = cluster.y;
    attributes[config.numAttrs++].val.clusterDim.z = cluster.z;
  }
  return cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...);
}
template <class... Parameters, class... Arguments>
cudaError_t launch_kernel(void (*kernel)(Parameters...), dim3 grid, int threads, Queue queue,
                          const Arguments&... arguments) {
  return launch_kernel(kernel, grid, threads, 0, queue, dim3(1), arguments...);
}

}  // namespace tandem::backend::cuda
