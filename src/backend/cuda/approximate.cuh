// The device's own approximations.
#pragma once

#include <cuda_runtime.h>

namespace tandem::backend::cuda {

/// 2^x to 2 units in the last place; 0 for -infinity, NaN stays.
__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float reciprocal_approx(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// The nearest value of tf32's ten bits of fraction. Tensor cores cut the rest off, which would be an error of one sign
/// in everything they read.
__device__ __forceinline__ float nearest_tf32(float x) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  unsigned bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return __uint_as_float(bits);
#else
  return x;
#endif
}

}  // namespace tandem::backend::cuda
