// Blocks of a cluster and each other's shared memory (compute capability 9.0; PTX ISA, "barrier.cluster", "mapa").
#pragma once

#include <cstdint>

namespace tandem::backend::cuda {

/// All threads of all blocks of the cluster. What one wrote to shared memory before, the others can read after.
__device__ __forceinline__ void cluster_sync() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

/// The same where nothing was written but barriers, which have a fence of their own.
__device__ __forceinline__ void cluster_meet() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.relaxed.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

/// The same place in another block's shared memory.
__device__ __forceinline__ std::uint32_t in_block(std::uint32_t address, int rank) {
  std::uint32_t there = address;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
#endif
  return there;
}

}  // namespace tandem::backend::cuda
