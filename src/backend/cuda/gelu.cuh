// CLIP's activations for sixteen-bit outputs: errors below half a step of fp16 (tests/unit/backend/cuda_linear_test.cc
// tries every fp16 value).
#pragma once

#include "backend/cuda/approximate.cuh"

namespace tandem::backend::cuda {

/// x / (1 + exp(-1.702 x)); 0 where the exponential overflows.
__device__ __forceinline__ float quick_gelu_fast(float x) {
  return x * reciprocal_approx(1.0f + exp2_fast(x * (-1.702f * 1.44269504f)));
}

/// 2 half x / (1 + exp(-1.702 x)) by one approximation, for eight-bit outputs: right to 2^-11 of |half x|.
__device__ __forceinline__ float quick_gelu_scaled(float x, float half) {
  float t;
  asm("tanh.approx.f32 %0, %1;" : "=f"(t) : "f"(x * 0.851f));
  return x * fmaf(t, half, half);
}

/// x Phi(x) = max(x, 0) - |x| 2^h(|x|), where 2^h(z) = erfc(z / sqrt 2) / 2: no cancellation on either side. h is a
/// polynomial of degree 6 fitted to log2 of the tail on [0, 8] with weights of the result's own size; beyond, the
/// tail vanishes below fp16's smallest step.
__device__ __forceinline__ float gelu_erf_fast(float x) {
  const float z = fminf(fabsf(x), 8.0f);
  float h = 3.2981970e-5f;
  h = fmaf(h, z, -7.5501116e-4f);
  h = fmaf(h, z, 7.9724602e-3f);
  h = fmaf(h, z, -0.053115960f);
  h = fmaf(h, z, -0.45910657f);
  h = fmaf(h, z, -1.15106256f);
  h = fmaf(h, z, -1.0000062f);
  return fmaf(-fabsf(x), exp2_fast(h), fmaxf(x, 0.0f));
}

/// The approximation by tanh (Hendrycks and Gimpel 2016) as it is written, in float32.
__device__ __forceinline__ float gelu_tanh(float x) {
  return 0.5F * x * (1 + tanhf(0.79788456080286536F * (x + 0.044715F * x * x * x)));
}

}  // namespace tandem::backend::cuda
