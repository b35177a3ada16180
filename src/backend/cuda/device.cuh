// What kernels share: element types, eight elements at a time, sums over a warp.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <cstdint>
#include <type_traits>

#include "backend/cuda/approximate.cuh"
#include "tensor/dtype.h"
#include "tensor/tensor.h"

namespace tandem::backend::cuda {

/// Calls f with a value of the C++ type that `type` names.
template <class F>
cudaError_t with_type(DType type, const F& f) {
  switch (type) {
    case DType::f32: return f(float{});
    case DType::f16: return f(__half{});
    case DType::bf16: return f(__nv_bfloat16{});
    default: return cudaErrorInvalidValue;
  }
}

__device__ inline float to_float(float v) {
  return v;
}
__device__ inline float to_float(__half v) {
  return __half2float(v);
}
__device__ inline float to_float(__nv_bfloat16 v) {
  return __bfloat162float(v);
}

template <class T>
__device__ T from_float(float v);
template <>
__device__ inline float from_float<float>(float v) {
  return v;
}
template <>
__device__ inline __half from_float<__half>(float v) {
  return __float2half_rn(v);
}
template <>
__device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float v) {
  return __float2bfloat16_rn(v);
}

/// The nearest of int8's whole numbers, ties to even, at most 127 on either side.
template <>
__device__ inline std::int8_t from_float<std::int8_t>(float v) {
  return static_cast<std::int8_t>(__float2int_rn(fminf(fmaxf(v, -127.0f), 127.0f)));
}
template <>
__device__ inline __nv_fp8_e4m3 from_float<__nv_fp8_e4m3>(float v) {
  return __nv_fp8_e4m3(v);
}

/// Two neighbours in one register, the first in the low half.
template <class T>
__device__ std::uint32_t pack2(float low, float high);
template <>
__device__ inline std::uint32_t pack2<__half>(float low, float high) {
  const __half2 v = __floats2half2_rn(low, high);
  return reinterpret_cast<const std::uint32_t&>(v);
}
template <>
__device__ inline std::uint32_t pack2<__nv_bfloat16>(float low, float high) {
  const __nv_bfloat162 v = __floats2bfloat162_rn(low, high);
  return reinterpret_cast<const std::uint32_t&>(v);
}

/// The largest finite value of E4M3.
inline constexpr float kLargestE4m3 = 448;
/// Two neighbours as E4M3, the first in the low byte: rounded to nearest even, what is too large to the largest; NaN
/// stays.
__device__ inline std::uint16_t pack_e4m3(float low, float high) {
  return __nv_cvt_float2_to_fp8x2({low, high}, __NV_SATFINITE, __NV_E4M3);
}

/// Eight elements that begin at a multiple of 16 bytes.
__device__ inline void load8(const float* p, float (&v)[8]) {
  const float4 a = reinterpret_cast<const float4*>(p)[0], b = reinterpret_cast<const float4*>(p)[1];
  v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
  v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
}
__device__ inline void load8(const __half* p, float (&v)[8]) {
  const uint4 a = *reinterpret_cast<const uint4*>(p);
  const std::uint32_t words[4] = {a.x, a.y, a.z, a.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair = __half22float2(reinterpret_cast<const __half2&>(words[i]));
    v[2 * i] = pair.x, v[2 * i + 1] = pair.y;
  }
}
__device__ inline void load8(const __nv_bfloat16* p, float (&v)[8]) {
  const uint4 a = *reinterpret_cast<const uint4*>(p);
  const std::uint32_t words[4] = {a.x, a.y, a.z, a.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    v[2 * i] = __uint_as_float(words[i] << 16), v[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
  }
}
__device__ inline void store8(float* p, const float (&v)[8]) {
  reinterpret_cast<float4*>(p)[0] = make_float4(v[0], v[1], v[2], v[3]);
  reinterpret_cast<float4*>(p)[1] = make_float4(v[4], v[5], v[6], v[7]);
}
template <class T>
__device__ inline void store8(T* p, const float (&v)[8]) {
  *reinterpret_cast<uint4*>(p) =
      make_uint4(pack2<T>(v[0], v[1]), pack2<T>(v[2], v[3]), pack2<T>(v[4], v[5]), pack2<T>(v[6], v[7]));
}

/// At a multiple of 8 bytes.
__device__ inline void store8(__nv_fp8_e4m3* p, const float (&v)[8]) {
  const auto four = [&](int i) {
    return static_cast<std::uint32_t>(pack_e4m3(v[i], v[i + 1])) |
           static_cast<std::uint32_t>(pack_e4m3(v[i + 2], v[i + 3])) << 16;
  };
  *reinterpret_cast<uint2*>(p) = make_uint2(four(0), four(4));
}

/// Rounded as from_float() does; at a multiple of 8 bytes.
__device__ inline void store8(std::int8_t* p, const float (&v)[8]) {
  const auto four = [&](int i) {
    std::uint32_t word = 0;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      word |= static_cast<std::uint32_t>(static_cast<std::uint8_t>(from_float<std::int8_t>(v[i + k]))) << (8 * k);
    }
    return word;
  };
  *reinterpret_cast<uint2*>(p) = make_uint2(four(0), four(4));
}

/// kWidth (1 or 8) elements.
template <int kWidth, class T>
__device__ inline void load(const T* p, float (&v)[kWidth]) {
  if constexpr (kWidth == 8) {
    load8(p, v);
  } else {
    v[0] = to_float(*p);
  }
}
template <int kWidth, class T>
__device__ inline void store(T* p, const float (&v)[kWidth]) {
  if constexpr (kWidth == 8) {
    store8(p, v);
  } else {
    *p = from_float<T>(v[0]);
  }
}

/// Over `kLanes` neighbouring lanes (a power of two).
template <int kLanes = 32>
__device__ inline float warp_sum(float v) {
#pragma unroll
  for (int d = kLanes / 2; d > 0; d /= 2) v += __shfl_xor_sync(0xffffffffu, v, d);
  return v;
}
template <int kLanes = 32>
__device__ inline float warp_max(float v) {
#pragma unroll
  for (int d = kLanes / 2; d > 0; d /= 2) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, d));
  return v;
}

/// Rows that are so few that a pass waits for memory more than it reads.
inline constexpr std::int64_t kFewRows = 4096;

/// launch(std::integral_constant<int, kUnits>), with the fewest kUnits such that kUnits * 256 >= columns: what a warp
/// needs that takes a row of at most kMost elements into registers, eight a lane at a time.
template <int kMost, int kUnits = 1, class Launch>
cudaError_t with_units(std::int64_t columns, Launch launch) {
  if constexpr (kUnits * 256 < kMost) {
    if (columns > kUnits * 256) return with_units<kMost, kUnits + 1>(columns, launch);
  }
  return launch(std::integral_constant<int, kUnits>());
}

/// Statistics of a row that a warp has in registers, `width` elements of which this lane's begin at `first` + 256 u:
/// takes the mean from every element and returns 1 / sqrt(variance + eps). The variance is the mean square of what is
/// left (two passes over registers), without the cancellation of E[x^2] - E[x]^2.
template <int kUnits>
__device__ __forceinline__ float centre_row(float (&v)[kUnits][8], int first, int width, float eps, float& mean) {
  float sum = 0, squares = 0;
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
    if (first + u * 256 < width) {
#pragma unroll
      for (int i = 0; i < 8; ++i) sum += v[u][i];
    }
  }
  mean = warp_sum(sum) / static_cast<float>(width);
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
    if (first + u * 256 < width) {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        v[u][i] -= mean;
        squares += v[u][i] * v[u][i];
      }
    }
  }
  return 1 / sqrtf(warp_sum(squares) / static_cast<float>(width) + eps);
}

/// Whether rows of this view can be read eight elements at a time.
template <class View>
bool vectors_fit(const View& v) {
  const auto address = reinterpret_cast<std::uintptr_t>(v.data);
  return !v || (v.columns() % 8 == 0 && (v.stride % 8 == 0 || v.rows() <= 1) && address % 16 == 0);
}

inline unsigned blocks_for(std::int64_t work, std::int64_t per_block) {
  return static_cast<unsigned>((work + per_block - 1) / per_block);
}

}  // namespace tandem::backend::cuda
