// Attention of float32 values on tensor cores (mma.sync, compute capability 8.0), for any length: scores in split
// bfloat16 (m16n8k16), their product with the values in tf32 (m16n8k8).
//
// The recurrence is attention_plain.cu's, the walk over the keys attention_mma.cu's, 32 keys at a time. A warp takes 16
// or 32 queries, so that what it reads of keys and values serves twice.
//
// What a score is wrong by, its weight is wrong by as a share of itself: with scores around ten, 2^-11 of each term
// becomes 2^-8 of a weight, and the next block's sharp attention magnifies that again. So a query is the sum of two
// bfloat16, and so is a key, and a score is three products, high high + low high + high low, right to 2^-16 of each
// term: half as slow again as tf32 for 32 times its precision.
//
// Which key stands at which place of p v's operands is free as long as both agree. So place t of a product's eight
// holds key 2t, and place t + 4 key 2t + 1: the accumulators of q k^T, whose columns 2t and 2t + 1 a lane holds, are
// the operand of p v as they stand. Weights and values are rounded to tf32.
#include <cmath>

#include "backend/cuda/async_copy.cuh"
#include "backend/cuda/attention.cuh"
#include "backend/cuda/kernels.h"

namespace tandem::backend::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kKeys = 32;

/// Floats between rows of shared memory, so that what a warp reads at once stands in different banks.
template <int kDim>
constexpr int kPitchK = kDim + 8;
template <int kDim>
constexpr int kPitchV = kDim + 4;
/// Two stages of keys and values.
template <int kDim>
constexpr int kShared = 2 * kKeys*(kPitchK<kDim> + kPitchV<kDim>)*4;

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800

__device__ inline std::uint32_t to_tf32(float v) {
  return __float_as_uint(nearest_tf32(v));
}

/// d += a b, a 16 x 8, b 8 x 8.
__device__ inline void multiply(float (&d)[4], const std::uint32_t (&a)[4], float b0, float b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(to_tf32(b0)), "r"(to_tf32(b1)));
}

/// Two neighbours as sums of two bfloat16 each, to 2^-17 of themselves.
__device__ inline void split(float x, float y, std::uint32_t& high, std::uint32_t& low) {
  high = pack2<__nv_bfloat16>(x, y);
  low = pack2<__nv_bfloat16>(x - __uint_as_float(high << 16), y - __uint_as_float(high & 0xffff0000U));
}

/// d += a b, a 16 x 16, b 16 x 8, bfloat16.
__device__ inline void multiply(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// Rows [begin, begin + kKeys) of the sequence's keys or values; zeros from `end` on, and beyond the head.
template <int kDim, int kPitch>
__device__ inline void fetch(float* to, const AttentionCall<float>& c, const float* rows, std::int64_t ld,
                             const float* prefix_rows, std::int64_t ldp, std::int64_t first, std::int64_t column,
                             int begin, int end) {
  constexpr int kUnits = kDim / 4;
#pragma unroll
  for (int i = static_cast<int>(threadIdx.x); i < kKeys * kUnits; i += kThreads) {
    const int r = i / kUnits, d = i % kUnits * 4, key = begin + r;
    const bool there = key < end && d < c.head_dim;
    const float* from = there ? key_row(rows, ld, prefix_rows, ldp, c.prefix, first, key) + column + d : rows;
    copy16(to + r * kPitch + d, from, there);
  }
}

#endif

/// kDim >= head_dim is a multiple of 16; a warp takes kTiles * 16 queries.
template <int kDim, int kTiles>
__global__ void __launch_bounds__(kThreads) attention_tf32_kernel(const AttentionCall<float> c) {
  fetch_ahead(c.ahead);
  wait_for_previous();
  let_next_begin();
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  constexpr int kQueries = 64 * kTiles, kSteps = kDim / 8, kDeep = kDim / 16, kKeyTiles = kKeys / 8;
  extern __shared__ __align__(16) float stages[];
  float* const sk = stages;                          // two stages
  float* const sv = sk + 2 * kKeys * kPitchK<kDim>;  // two stages
  const int tile = static_cast<int>(blockIdx.x) % c.tiles, sequence = static_cast<int>(blockIdx.x) / c.tiles;
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.y) * c.head_dim;
  const RowRange queries = rows_of(c.query_offsets, c.query_longest, sequence);
  const RowRange own = rows_of(c.key_offsets, c.key_longest, sequence);
  const int first = tile * kQueries, count = min(kQueries, queries.count - first);
  if (count <= 0) return;
  const int keys = c.prefix + (c.causal ? min(own.count, first + count) : own.count);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int group = lane / 4, pair = lane % 4 * 2;  // this lane's row and pair of columns in an 8 x 8 matrix

  fetch<kDim, kPitchK<kDim>>(sk, c, c.k, c.ldk, c.prefix_k, c.ldpk, own.first, column, 0, keys);
  fetch<kDim, kPitchV<kDim>>(sv, c, c.v, c.ldv, c.prefix_v, c.ldpv, own.first, column, 0, keys);
  commit_copies();

  // Row r of a warp's tile m, counted from `first`: (warp * kTiles + m) * 16 + r.
  std::uint32_t q_high[kTiles][kDeep][4], q_low[kTiles][kDeep][4];
#pragma unroll
  for (int m = 0; m < kTiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = (warp * kTiles + m) * 16 + half * 8 + group;
      const float* const from = c.q + (queries.first + first + row) * c.ldq + column;
#pragma unroll
      for (int k = 0; k < kSteps; ++k) {
        const int d = k * 8 + pair;
        const bool there = row < count && d < c.head_dim;
        const float2 v = there ? *reinterpret_cast<const float2*>(from + d) : make_float2(0, 0);
        const int place = half + k % 2 * 2;
        split(v.x * c.scale, v.y * c.scale, q_high[m][k / 2][place], q_low[m][k / 2][place]);
      }
    }
  }
  float out[kTiles][kSteps][4] = {};
  float largest[kTiles][2], sum[kTiles][2] = {};
#pragma unroll
  for (int m = 0; m < kTiles; ++m) largest[m][0] = largest[m][1] = -INFINITY;

  int stage = 0;
  for (int begin = 0; begin < keys; begin += kKeys, stage ^= 1) {
    if (begin + kKeys < keys) {
      fetch<kDim, kPitchK<kDim>>(sk + (stage ^ 1) * kKeys * kPitchK<kDim>, c, c.k, c.ldk, c.prefix_k, c.ldpk, own.first,
                                 column, begin + kKeys, keys);
      fetch<kDim, kPitchV<kDim>>(sv + (stage ^ 1) * kKeys * kPitchV<kDim>, c, c.v, c.ldv, c.prefix_v, c.ldpv, own.first,
                                 column, begin + kKeys, keys);
    }
    commit_copies();
    wait_copies<1>();
    __syncthreads();
    const float* const keys_here = sk + stage * kKeys * kPitchK<kDim>;
    const float* const values_here = sv + stage * kKeys * kPitchV<kDim>;

    float s[kTiles][kKeyTiles][4] = {};
#pragma unroll
    for (int k = 0; k < kDeep; ++k) {
#pragma unroll
      for (int n = 0; n < kKeyTiles; ++n) {
        const float* const key = keys_here + (n * 8 + group) * kPitchK<kDim> + k * 16 + pair;
        std::uint32_t high[2], low[2];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const float2 v = *reinterpret_cast<const float2*>(key + i * 8);
          split(v.x, v.y, high[i], low[i]);
        }
#pragma unroll
        for (int m = 0; m < kTiles; ++m) {
          multiply(s[m][n], q_low[m][k], high);
          multiply(s[m][n], q_high[m][k], low);
          multiply(s[m][n], q_high[m][k], high);
        }
      }
    }
#pragma unroll
    for (int m = 0; m < kTiles; ++m) {
      const int row = first + (warp * kTiles + m) * 16 + group;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int limit = c.causal ? min(keys, c.prefix + row + half * 8 + 1) : keys;
        float most = largest[m][half];
#pragma unroll
        for (int n = 0; n < kKeyTiles; ++n) {
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            float& score = s[m][n][2 * half + e];
            if (begin + n * 8 + pair + e >= limit) score = -INFINITY;
            most = fmaxf(most, score);
          }
        }
        most = warp_max<4>(most);
        const float base = most == -INFINITY ? 0 : most;
        const float shrink = exp2_fast(largest[m][half] - base);
        largest[m][half] = most;
        float part = 0;
#pragma unroll
        for (int n = 0; n < kKeyTiles; ++n) {
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            float& score = s[m][n][2 * half + e];
            score = exp2_fast(score - base);
            part += score;
          }
        }
        sum[m][half] = sum[m][half] * shrink + part;
#pragma unroll
        for (int n = 0; n < kSteps; ++n) out[m][n][2 * half] *= shrink, out[m][n][2 * half + 1] *= shrink;
      }
    }
#pragma unroll
    for (int k = 0; k < kKeyTiles; ++k) {
      std::uint32_t p[kTiles][4];
#pragma unroll
      for (int m = 0; m < kTiles; ++m) {
        p[m][0] = to_tf32(s[m][k][0]), p[m][1] = to_tf32(s[m][k][2]);
        p[m][2] = to_tf32(s[m][k][1]), p[m][3] = to_tf32(s[m][k][3]);
      }
      const float* const rows = values_here + (k * 8 + pair) * kPitchV<kDim> + group;
#pragma unroll
      for (int n = 0; n < kSteps; ++n) {
        const float b0 = rows[n * 8], b1 = rows[n * 8 + kPitchV<kDim>];
#pragma unroll
        for (int m = 0; m < kTiles; ++m) multiply(out[m][n], p[m], b0, b1);
      }
    }
    __syncthreads();  // before the next fetch overwrites this stage
  }

#pragma unroll
  for (int m = 0; m < kTiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = (warp * kTiles + m) * 16 + half * 8 + group;
      const float scale = 1 / warp_sum<4>(sum[m][half]);
      float* const to = c.out + (queries.first + first + row) * c.ldo + column;
#pragma unroll
      for (int n = 0; n < kSteps; ++n) {
        if (row < count && n * 8 + pair < c.head_dim) {
          *reinterpret_cast<float2*>(to + n * 8 + pair) =
              make_float2(nearest_tf32(out[m][n][2 * half] * scale), nearest_tf32(out[m][n][2 * half + 1] * scale));
        }
      }
    }
  }
#endif
}

template <int kDim, int kTiles>
cudaError_t launch(const AttentionArgs& a, const AttentionDevice& device, Queue queue) {
  return launch_tiles(attention_tf32_kernel<kDim, kTiles>, a, 64 * kTiles, kThreads, kShared<kDim>, device, queue);
}

}  // namespace

cudaError_t attention_tf32(const AttentionArgs& a, const AttentionDevice& device, Queue queue) {
  if (a.q.dtype != DType::f32) return cudaErrorInvalidValue;
  if (a.head_dim <= 64) {
    // Short sequences would leave half of the larger tiles empty.
    const bool small = a.queries.longest <= 64;
    if (a.head_dim <= 32) return small ? launch<32, 1>(a, device, queue) : launch<32, 2>(a, device, queue);
    return small ? launch<64, 1>(a, device, queue) : launch<64, 2>(a, device, queue);
  }
  if (a.head_dim <= 80) return launch<80, 1>(a, device, queue);
  if (a.head_dim <= 112) return launch<112, 1>(a, device, queue);
  return launch<128, 1>(a, device, queue);
}

}  // namespace tandem::backend::cuda
