// The device's own approximations. No other header of this project stands here, so that what takes long to compile can
// include it.
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

}  // namespace tandem::backend::cuda
