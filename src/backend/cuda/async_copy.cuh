// Copies from device to shared memory that run beside the computation (cp.async, compute capability 8.0).
#pragma once

#include <cstdint>

namespace tandem::backend::cuda {

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800

__device__ inline std::uint32_t shared_address(const void* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}

/// 16 bytes; zeros where not `there`.
__device__ inline void copy16(void* to, const void* from, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
               "r"(there ? 16 : 0));
}
/// Closes a group of copies.
__device__ inline void commit_copies() {
  asm volatile("cp.async.commit_group;");
}
/// Until no more than kPending of this thread's groups are under way.
template <int kPending>
__device__ inline void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

#endif

}  // namespace tandem::backend::cuda
