// out = (x - mean(x)) / sqrt(var(x) + eps) * gamma + beta per row (Ba, Kiros, Hinton 2016, "Layer Normalization").
//
// A warp takes a row and reads it once: the row stays in registers, so that the variance is the mean square of the
// differences from the mean (two passes over registers), without the cancellation of E[x^2] - E[x]^2.
#include "backend/cuda/device.cuh"
#include "backend/cuda/kernels.h"
#include "backend/cuda/overlap.cuh"

namespace tandem::backend::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kMostUnits = 8;  // of 32 lanes times 8 elements: rows up to 2,048 wide

__device__ __forceinline__ void load_affine(const float* gamma, const float* beta, int at, float (&v)[2][8]) {
  if (gamma != nullptr) {
    load8(gamma + at, v[0]), load8(beta + at, v[1]);
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) v[0][i] = 1, v[1][i] = 0;
}

template <class In, class Out>
struct Call {
  const In* x;
  Out* out;
  const float *gamma, *beta;  ///< null: ones and zeros
  std::int64_t ldx, ldo, rows;
  int width;
  float eps;
  bool tf32;  ///< round what is written
  Ahead ahead;
};

/// kUnits * 256 >= width, a multiple of 8; rows begin at multiples of 16 bytes. kEarly: where rows are few, gamma and
/// beta come from memory that is far away, one row after the other; they are read while the kernel in front still runs.
template <class In, class Out, int kUnits, bool kEarly>
__global__ void __launch_bounds__(kWarps * 32) norm_in_registers(const Call<In, Out> c) {
  const int first = static_cast<int>(threadIdx.x % 32) * 8;
  float early[kEarly ? kUnits : 1][2][8];
  if constexpr (kEarly) {
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
      const int at = first + u * 256;
      if (at < c.width) load_affine(c.gamma, c.beta, at, early[u]);
    }
    fetch_ahead(c.ahead);
  }
  wait_for_previous();
  let_next_begin();
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (row >= c.rows) return;
  const In* x = c.x + row * c.ldx;
  float v[kUnits][8];
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
    const int at = first + u * 256;
    if (at < c.width) load8(x + at, v[u]);
  }
  float mean = 0;
  const float scale = centre_row(v, first, c.width, c.eps, mean);
  Out* out = c.out + row * c.ldo;
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
    const int at = first + u * 256;
    if (at < c.width) {
      float given[2][8];
      if constexpr (!kEarly) load_affine(c.gamma, c.beta, at, given);
      const auto& [gamma, beta] = kEarly ? early[kEarly ? u : 0] : given;
#pragma unroll
      for (int i = 0; i < 8; ++i) v[u][i] = v[u][i] * scale * gamma[i] + beta[i];
      if (std::is_same_v<Out, float> && c.tf32) {
#pragma unroll
        for (float& y : v[u]) y = nearest_tf32(y);
      }
      store8(out + at, v[u]);
    }
  }
}

/// Any width and alignment.
template <class In, class Out>
__global__ void __launch_bounds__(kWarps * 32) norm_any(const Call<In, Out> c) {
  wait_for_previous();
  let_next_begin();
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (row >= c.rows) return;
  const int lane = static_cast<int>(threadIdx.x % 32);
  const In* x = c.x + row * c.ldx;
  float sum = 0, squares = 0;
  for (int i = lane; i < c.width; i += 32) sum += to_float(x[i]);
  const float mean = warp_sum(sum) / static_cast<float>(c.width);
  for (int i = lane; i < c.width; i += 32) {
    const float d = to_float(x[i]) - mean;
    squares += d * d;
  }
  const float scale = 1 / sqrtf(warp_sum(squares) / static_cast<float>(c.width) + c.eps);
  Out* out = c.out + row * c.ldo;
  for (int i = lane; i < c.width; i += 32) {
    float y = (to_float(x[i]) - mean) * scale;
    if (c.gamma != nullptr) y = y * c.gamma[i] + c.beta[i];
    out[i] = from_float<Out>(c.tf32 ? nearest_tf32(y) : y);
  }
}

template <class In, class Out, int kUnits = 1>
cudaError_t launch(const Call<In, Out>& c, bool vectors, Queue queue) {
  if constexpr (kUnits <= kMostUnits) {
    if (vectors && c.width > kUnits * 256) return launch<In, Out, kUnits + 1>(c, vectors, queue);
    if (vectors) {
      return launch_kernel(
          c.rows <= kFewRows ? norm_in_registers<In, Out, kUnits, true> : norm_in_registers<In, Out, kUnits, false>,
          blocks_for(c.rows, kWarps), kWarps * 32, queue, c);
    }
  }
  return launch_kernel(norm_any<In, Out>, blocks_for(c.rows, kWarps), kWarps * 32, queue, c);
}

}  // namespace

cudaError_t layer_norm(const LayerNormArgs& a, const Ahead& ahead, Queue queue) {
  if (a.x.rows() == 0) return cudaSuccess;
  const bool vectors = vectors_fit(a.x) && vectors_fit(a.out.view) && vectors_fit(a.gamma) && vectors_fit(a.beta);
  return with_type(a.x.dtype, [&](auto in) {
    return with_type(a.out.view.dtype, [&](auto out) -> cudaError_t {
      using In = decltype(in);
      using Out = decltype(out);
      // A sixteen-bit type never becomes the other one.
      if constexpr (sizeof(In) == 2 && sizeof(Out) == 2 && !std::is_same_v<In, Out>) {
        return cudaErrorInvalidValue;
      } else {
        const Call<In, Out> c{a.x.as<In>(),
                              a.out.view.as<Out>(),
                              a.gamma.as<float>(),
                              a.beta.as<float>(),
                              a.x.stride,
                              a.out.view.stride,
                              a.x.rows(),
                              static_cast<int>(a.x.columns()),
                              a.eps,
                              a.precision == Precision::tf32,
                              ahead};
        return launch<In, Out>(c, vectors, queue);
      }
    });
  });
}

}  // namespace tandem::backend::cuda
