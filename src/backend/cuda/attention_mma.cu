// Attention in sixteen-bit types on tensor cores (mma.sync, compute capability 8.0), for any length.
//
// A block takes 64 queries of one head of one sequence, 16 a warp, and walks over the keys 64 at a time; keys and
// values of the next step are on their way to shared memory while this step is computed. Scores, softmax and sums are
// float32; the weights are rounded to the type for their product with the values. The recurrence is
// attention_plain.cu's; how the accumulators of one product become an operand of the next is FlashAttention-2's (Dao
// 2023).
#include <cmath>

#include "backend/cuda/async_copy.cuh"
#include "backend/cuda/attention.cuh"
#include "backend/cuda/kernels.h"

namespace tandem::backend::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kRows = 64;  // of queries and of keys

/// Elements between rows of shared memory: an odd number of 16-byte units, so that the 8 rows of an 8 x 8 matrix stand
/// in different banks.
template <int kDim>
constexpr int kPitch = kDim + 8;
/// Queries, and two stages of keys and values.
template <int kDim>
constexpr int kShared = 5 * kRows* kPitch<kDim> * 2;

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800

/// Four 8 x 8 matrices whose rows the lanes point at, 8 lanes a matrix.
__device__ inline void load_matrices(std::uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row)));
}
__device__ inline void load_matrices_transposed(std::uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row)));
}

/// d += a b, a 16 x 16, b 16 x 8.
template <class T>
__device__ inline void multiply(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  if constexpr (std::is_same_v<T, __half>) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
        "%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, "
        "%2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
}

/// Rows [begin, begin + 64) of the sequence's keys or values; zeros from `end` on, and beyond the head.
template <class T, int kDim>
__device__ inline void fetch(T* to, const AttentionCall<T>& c, const T* rows, std::int64_t ld, const T* prefix_rows,
                             std::int64_t ldp, std::int64_t first, std::int64_t column, int begin, int end) {
  constexpr int kUnits = kDim / 8;
#pragma unroll
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kUnits; i += kThreads) {
    const int r = i / kUnits, d = i % kUnits * 8, key = begin + r;
    const bool there = key < end && d < c.head_dim;
    const T* from = there ? key_row(rows, ld, prefix_rows, ldp, c.prefix, first, key) + column + d : rows;
    copy16(to + r * kPitch<kDim> + d, from, there);
  }
}

#endif

/// kDim >= head_dim is a multiple of 16; what lies between is zero.
template <class T, int kDim>
__global__ void __launch_bounds__(kThreads, kDim <= 80 ? 4 : 2) attention_mma_kernel(const AttentionCall<T> c) {
  fetch_ahead(c.ahead);
  wait_for_previous();
  let_next_begin();
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  extern __shared__ __align__(16) unsigned char memory[];
  constexpr int kTile = kRows * kPitch<kDim>;
  T* const sq = reinterpret_cast<T*>(memory);
  T* const sk = sq + kTile;      // two stages
  T* const sv = sk + 2 * kTile;  // two stages
  const int tile = static_cast<int>(blockIdx.x) % c.tiles, sequence = static_cast<int>(blockIdx.x) / c.tiles;
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.y) * c.head_dim;
  const RowRange queries = rows_of(c.query_offsets, c.query_longest, sequence);
  const RowRange own = rows_of(c.key_offsets, c.key_longest, sequence);
  const int first = tile * kRows, count = min(kRows, queries.count - first);
  if (count <= 0) return;
  const int keys = c.prefix + (c.causal ? min(own.count, first + count) : own.count);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;

  // The queries as if they were keys without a prefix.
  {
    constexpr int kUnits = kDim / 8;
#pragma unroll
    for (int i = static_cast<int>(threadIdx.x); i < kRows * kUnits; i += kThreads) {
      const int r = i / kUnits, d = i % kUnits * 8;
      const bool there = r < count && d < c.head_dim;
      copy16(sq + r * kPitch<kDim> + d, there ? c.q + (queries.first + first + r) * c.ldq + column + d : c.q, there);
    }
  }
  fetch<T, kDim>(sk, c, c.k, c.ldk, c.prefix_k, c.ldpk, own.first, column, 0, keys);
  fetch<T, kDim>(sv, c, c.v, c.ldv, c.prefix_v, c.ldpv, own.first, column, 0, keys);
  commit_copies();

  constexpr int kSteps = kDim / 16;  // of 16 elements of the head
  constexpr int kValueTiles = kDim / 8;
  std::uint32_t q[kSteps][4];
  float out[kValueTiles][4] = {};
  float largest[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
  // This lane's two rows of the accumulators, counted in the sequence.
  const int row = first + warp * 16 + lane / 4;

  int stage = 0;
  for (int begin = 0; begin < keys; begin += kRows, stage ^= 1) {
    if (begin + kRows < keys) {
      fetch<T, kDim>(sk + (stage ^ 1) * kTile, c, c.k, c.ldk, c.prefix_k, c.ldpk, own.first, column, begin + kRows,
                     keys);
      fetch<T, kDim>(sv + (stage ^ 1) * kTile, c, c.v, c.ldv, c.prefix_v, c.ldpv, own.first, column, begin + kRows,
                     keys);
    }
    commit_copies();
    wait_copies<1>();
    __syncthreads();
    if (begin == 0) {
#pragma unroll
      for (int k = 0; k < kSteps; ++k) {
        load_matrices(q[k], sq + (warp * 16 + lane % 16) * kPitch<kDim> + k * 16 + lane / 16 * 8);
      }
    }
    const T* const keys_here = sk + stage * kTile;
    const T* const values_here = sv + stage * kTile;

    // s = q k^T for 16 queries and 64 keys: 8 accumulators of 16 x 8.
    float s[8][4] = {};
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        std::uint32_t b[4];
        load_matrices(b, keys_here + (n * 16 + lane / 16 * 8 + lane % 8) * kPitch<kDim> + k * 16 + lane / 8 % 2 * 8);
        multiply<T>(s[2 * n], q[k], b[0], b[1]);
        multiply<T>(s[2 * n + 1], q[k], b[2], b[3]);
      }
    }
    // Masks only where a tile has keys that are not there or not to be seen.
    if (begin + kRows > keys || (c.causal && begin + kRows > c.prefix + first + warp * 16 + 1)) {
#pragma unroll
      for (int n = 0; n < 8; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int key = begin + n * 8 + lane % 4 * 2 + e % 2;
          const bool seen = key < keys && (!c.causal || key < c.prefix + row + e / 2 * 8 + 1);
          if (!seen) s[n][e] = -INFINITY;
        }
      }
    }
    float scaled_base[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float most = largest[half];
#pragma unroll
      for (int n = 0; n < 8; ++n) most = fmaxf(most, fmaxf(s[n][2 * half], s[n][2 * half + 1]));
      most = warp_max<4>(most);
      const float base = most == -INFINITY ? 0 : most;
      const float shrink = exp2_fast((largest[half] - base) * c.scale);
      largest[half] = most;
      scaled_base[half] = base * c.scale;
      sum[half] *= shrink;
#pragma unroll
      for (int n = 0; n < kValueTiles; ++n) out[n][2 * half] *= shrink, out[n][2 * half + 1] *= shrink;
    }
    float part[2] = {0, 0};
#pragma unroll
    for (int n = 0; n < 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        s[n][e] = exp2_fast(fmaf(s[n][e], c.scale, -scaled_base[e / 2]));
        part[e / 2] += s[n][e];
      }
    }
    sum[0] += part[0], sum[1] += part[1];

    // out += p v: the accumulators of two neighbouring key tiles are the operand of 16 keys.
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const std::uint32_t p[4] = {pack2<T>(s[2 * k][0], s[2 * k][1]), pack2<T>(s[2 * k][2], s[2 * k][3]),
                                  pack2<T>(s[2 * k + 1][0], s[2 * k + 1][1]),
                                  pack2<T>(s[2 * k + 1][2], s[2 * k + 1][3])};
#pragma unroll
      for (int n = 0; n < kSteps; ++n) {
        std::uint32_t b[4];
        load_matrices_transposed(
            b, values_here + (k * 16 + lane / 8 % 2 * 8 + lane % 8) * kPitch<kDim> + n * 16 + lane / 16 * 8);
        multiply<T>(out[2 * n], p, b[0], b[1]);
        multiply<T>(out[2 * n + 1], p, b[2], b[3]);
      }
    }
    __syncthreads();  // before the next fetch overwrites this stage
  }

  // Each warp's 16 rows through its own part of the queries' memory, so that rows leave 16 bytes at a time.
  wait_copies<0>();
  T* const mine = sq + warp * 16 * kPitch<kDim>;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float scale = 1 / warp_sum<4>(sum[half]);
#pragma unroll
    for (int n = 0; n < kValueTiles; ++n) {
      *reinterpret_cast<std::uint32_t*>(mine + (lane / 4 + half * 8) * kPitch<kDim> + n * 8 + lane % 4 * 2) =
          pack2<T>(out[n][2 * half] * scale, out[n][2 * half + 1] * scale);
    }
  }
  __syncwarp();
  const int units = c.head_dim / 8;
  for (int i = lane; i < 16 * units; i += 32) {
    const int r = i / units, d = i % units * 8;
    if (warp * 16 + r >= count) continue;
    if (c.inverse != 0) {
      float v[8];
      load8(mine + r * kPitch<kDim> + d, v);
#pragma unroll
      for (float& x : v) x *= c.inverse;
      store8(eight_bit_place(c.out, c.ldo, queries.first + first + warp * 16 + r, column + d), v);
      continue;
    }
    *reinterpret_cast<uint4*>(c.out + (queries.first + first + warp * 16 + r) * c.ldo + column + d) =
        *reinterpret_cast<const uint4*>(mine + r * kPitch<kDim> + d);
  }
#endif
}

template <class T, int kDim>
cudaError_t launch(const AttentionArgs& a, const AttentionDevice& device, Queue queue) {
  return launch_tiles(attention_mma_kernel<T, kDim>, a, kRows, kThreads, kShared<kDim>, device, queue);
}

template <class T>
cudaError_t launch_for_head(const AttentionArgs& a, const AttentionDevice& device, Queue queue) {
  if (a.head_dim <= 32) return launch<T, 32>(a, device, queue);
  if (a.head_dim <= 64) return launch<T, 64>(a, device, queue);
  if (a.head_dim <= 80) return launch<T, 80>(a, device, queue);
  if (a.head_dim <= 96) return launch<T, 96>(a, device, queue);
  if (a.head_dim <= 112) return launch<T, 112>(a, device, queue);
  return launch<T, 128>(a, device, queue);
}

}  // namespace

cudaError_t attention_mma(const AttentionArgs& a, const AttentionDevice& device, Queue queue) {
  if (a.q.dtype == DType::f16) return launch_for_head<__half>(a, device, queue);
  if (a.q.dtype == DType::bf16) return launch_for_head<__nv_bfloat16>(a, device, queue);
  return cudaErrorInvalidValue;
}

}  // namespace tandem::backend::cuda
