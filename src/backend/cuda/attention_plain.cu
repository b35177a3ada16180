// Attention in float32 arithmetic, for any head of at most 128 elements, any stride and type: what the other kernels
// are compared with, and what fp32 uses.
//
// A block takes 64 queries of one head of one sequence and walks over the keys, 32 at a time. Per query it keeps the
// largest score m, the sum l of 2^(s - m), and the weighted sum of values; when m grows, both are scaled down
// (Milakov, Gimelshein 2018, "Online normalizer calculation for softmax"; Dao et al. 2022, FlashAttention).
#include <cmath>

#include "backend/cuda/attention.cuh"
#include "backend/cuda/kernels.h"

namespace tandem::backend::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kQueries = 64;
constexpr int kKeys = 32;
constexpr int kPitchP = kKeys + 4;  // in floats; rows begin in different banks

template <int kDim>
constexpr int kPitch = kDim + 4;
template <int kDim>
constexpr int kShared = ((kQueries + kKeys) * kPitch<kDim> + kQueries * kPitchP) * static_cast<int>(sizeof(float));

/// kDim >= head_dim is a multiple of 32; what lies between is zero.
template <class T, int kDim>
__global__ void __launch_bounds__(kThreads) attention_plain_kernel(const AttentionCall<T> c) {
  fetch_ahead(c.ahead);
  wait_for_previous();
  let_next_begin();
  extern __shared__ float shared[];
  float* const sq = shared;                         // [kQueries][kPitch]
  float* const skv = sq + kQueries * kPitch<kDim>;  // [kKeys][kPitch]: keys, then values
  float* const sp = skv + kKeys * kPitch<kDim>;     // [kQueries][kPitchP]
  const int tile = static_cast<int>(blockIdx.x) % c.tiles, sequence = static_cast<int>(blockIdx.x) / c.tiles;
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.y) * c.head_dim;
  const RowRange queries = rows_of(c.query_offsets, c.query_longest, sequence);
  const RowRange own = rows_of(c.key_offsets, c.key_longest, sequence);
  const int first = tile * kQueries, count = min(kQueries, queries.count - first);
  if (count <= 0) return;
  // Keys that the tile's last query sees.
  const int keys = c.prefix + (c.causal ? min(own.count, first + count) : own.count);
  // A thread has 4 rows, and of each every 8th key and 4 neighbouring elements of every 32.
  const int tx = static_cast<int>(threadIdx.x) % 8, ty = static_cast<int>(threadIdx.x) / 8;
  constexpr int kChunks = kDim / 32;

  for (int i = static_cast<int>(threadIdx.x); i < kQueries * kDim; i += kThreads) {
    const int r = i / kDim, d = i % kDim;
    const bool inside = r < count && d < c.head_dim;
    sq[r * kPitch<kDim> + d] = inside ? to_float(c.q[(queries.first + first + r) * c.ldq + column + d]) * c.scale : 0;
  }
  const auto fill = [&](const T* rows, std::int64_t ld, const T* prefix_rows, std::int64_t ldp, int begin) {
    for (int i = static_cast<int>(threadIdx.x); i < kKeys * kDim; i += kThreads) {
      const int r = i / kDim, d = i % kDim, key = begin + r;
      float value = 0;
      if (key < keys && d < c.head_dim) {
        value = to_float(key_row(rows, ld, prefix_rows, ldp, c.prefix, own.first, key)[column + d]);
      }
      skv[r * kPitch<kDim> + d] = value;
    }
  };

  float largest[4], sum[4], out[4][kChunks * 4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    largest[i] = -INFINITY, sum[i] = 0;
#pragma unroll
    for (float& o : out[i]) o = 0;
  }

  for (int begin = 0; begin < keys; begin += kKeys) {
    __syncthreads();  // the values before are done with
    fill(c.k, c.ldk, c.prefix_k, c.ldpk, begin);
    __syncthreads();
    float s[4][4] = {};
#pragma unroll 4
    for (int d = 0; d < kDim; d += 4) {
      float4 q[4], k[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        q[i] = *reinterpret_cast<const float4*>(sq + (ty * 4 + i) * kPitch<kDim> + d);
        k[i] = *reinterpret_cast<const float4*>(skv + (tx + 8 * i) * kPitch<kDim> + d);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          s[i][j] += q[i].x * k[j].x + q[i].y * k[j].y + q[i].z * k[j].z + q[i].w * k[j].w;
        }
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = first + ty * 4 + i;
      float most = -INFINITY;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int key = begin + tx + 8 * j;
        const bool seen = key < keys && (!c.causal || key < c.prefix + row + 1);
        if (!seen) s[i][j] = -INFINITY;
        most = fmaxf(most, s[i][j]);
      }
      most = fmaxf(largest[i], warp_max<8>(most));
      const float base = most == -INFINITY ? 0 : most;  // a row that sees none of these keys
      const float shrink = exp2f(largest[i] - base);
      largest[i] = most;
      float part = 0;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float p = exp2f(s[i][j] - base);
        part += p;
        sp[(ty * 4 + i) * kPitchP + tx + 8 * j] = p;
      }
      sum[i] = sum[i] * shrink + warp_sum<8>(part);
#pragma unroll
      for (float& o : out[i]) o *= shrink;
    }
    __syncthreads();  // the keys are done with, the weights are there
    fill(c.v, c.ldv, c.prefix_v, c.ldpv, begin);
    __syncthreads();
#pragma unroll 2
    for (int k = 0; k < kKeys; ++k) {
      float p[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) p[i] = sp[(ty * 4 + i) * kPitchP + k];
#pragma unroll
      for (int e = 0; e < kChunks; ++e) {
        const float4 v = *reinterpret_cast<const float4*>(skv + k * kPitch<kDim> + e * 32 + tx * 4);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          out[i][e * 4] += p[i] * v.x, out[i][e * 4 + 1] += p[i] * v.y;
          out[i][e * 4 + 2] += p[i] * v.z, out[i][e * 4 + 3] += p[i] * v.w;
        }
      }
    }
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int row = ty * 4 + i;
    if (row >= count) continue;
    T* to = c.out + (queries.first + first + row) * c.ldo + column;
#pragma unroll
    for (int e = 0; e < kChunks * 4; ++e) {
      const int d = e / 4 * 32 + tx * 4 + e % 4;
      if (d >= c.head_dim) continue;
      const float value = out[i][e] / sum[i];
      if (c.inverse != 0) {
        *eight_bit_place(c.out, c.ldo, queries.first + first + row, column + d) = __nv_fp8_e4m3(value * c.inverse);
      } else {
        to[d] = from_float<T>(c.tf32 ? nearest_tf32(value) : value);
      }
    }
  }
}

template <class T, int kDim>
cudaError_t launch(const AttentionArgs& a, const AttentionDevice& device, Queue queue) {
  return launch_tiles(attention_plain_kernel<T, kDim>, a, kQueries, kThreads, kShared<kDim>, device, queue);
}

}  // namespace

cudaError_t attention_plain(const AttentionArgs& a, const AttentionDevice& device, Queue queue) {
  return with_type(a.q.dtype, [&](auto t) {
    using T = decltype(t);
    if (a.head_dim <= 32) return launch<T, 32>(a, device, queue);
    if (a.head_dim <= 64) return launch<T, 64>(a, device, queue);
    if (a.head_dim <= 96) return launch<T, 96>(a, device, queue);
    return launch<T, 128>(a, device, queue);
  });
}

}  // namespace tandem::backend::cuda
