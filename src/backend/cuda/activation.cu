// out = fn(x) + residual, elementwise: the activations of linear layers where no product's epilogue has them.
//   quick_gelu  x sigmoid(1.702 x)
//   gelu_erf    x Phi(x) = x/2 (1 + erf(x / sqrt 2))                      (Hendrycks, Gimpel 2016)
//   gelu_tanh   x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))             (ibid.)
#include "backend/cuda/device.cuh"
#include "backend/cuda/gelu.cuh"
#include "backend/cuda/kernels.h"
#include "backend/cuda/overlap.cuh"

namespace tandem::backend::cuda {
namespace {

constexpr int kThreads = 256;

template <ActivationFn kFn>
__device__ float apply(float x) {
  if constexpr (kFn == ActivationFn::quick_gelu) {
    return x / (1 + expf(-1.702F * x));
  } else if constexpr (kFn == ActivationFn::gelu_erf) {
    return 0.5F * x * (1 + erff(x * 0.70710678118654752F));
  } else if constexpr (kFn == ActivationFn::gelu_tanh) {
    return gelu_tanh(x);
  } else {
    return x;
  }
}

template <class T>
struct Call {
  const T *x, *residual;
  T* out;
  std::int64_t ldx, ldr, ldo, rows;
  std::int64_t units;  // of a row
  bool tf32;
};

template <class T, ActivationFn kFn, int kWidth>
__global__ void __launch_bounds__(kThreads) activate_kernel(const Call<T> c) {
  wait_for_previous();
  let_next_begin();
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= c.rows * c.units) return;
  const std::int64_t row = i / c.units, column = i % c.units * kWidth;
  float v[kWidth];
  load<kWidth>(c.x + row * c.ldx + column, v);
#pragma unroll
  for (int k = 0; k < kWidth; ++k) v[k] = apply<kFn>(v[k]);
  if (c.residual != nullptr) {
    float r[kWidth];
    load<kWidth>(c.residual + row * c.ldr + column, r);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) v[k] += r[k];
  }
  if (std::is_same_v<T, float> && c.tf32) {
#pragma unroll
    for (float& y : v) y = nearest_tf32(y);
  }
  store<kWidth>(c.out + row * c.ldo + column, v);
}

template <class T, ActivationFn kFn>
cudaError_t launch(const ActivateCall& a, Queue queue) {
  const bool vectors = vectors_fit(a.x) && vectors_fit(a.residual) && vectors_fit(a.out);
  const int width = vectors ? 8 : 1;
  const Call<T> c{a.x.as<T>(),  a.residual.as<T>(), a.out.as<T>(),         a.x.stride, a.residual.stride,
                  a.out.stride, a.x.rows(),         a.x.columns() / width, a.tf32};
  const unsigned blocks = blocks_for(c.rows * c.units, kThreads);
  return launch_kernel(vectors ? activate_kernel<T, kFn, 8> : activate_kernel<T, kFn, 1>, blocks, kThreads, queue, c);
}

}  // namespace

cudaError_t activate(const ActivateCall& a, Queue queue) {
  if (a.x.shape.elements() == 0) return cudaSuccess;
  return with_type(a.x.dtype, [&](auto t) {
    using T = decltype(t);
    switch (a.fn) {
      case ActivationFn::none: return launch<T, ActivationFn::none>(a, queue);
      case ActivationFn::quick_gelu: return launch<T, ActivationFn::quick_gelu>(a, queue);
      case ActivationFn::gelu_erf: return launch<T, ActivationFn::gelu_erf>(a, queue);
      case ActivationFn::gelu_tanh: return launch<T, ActivationFn::gelu_tanh>(a, queue);
    }
    return cudaErrorInvalidValue;
  });
}

}  // namespace tandem::backend::cuda
