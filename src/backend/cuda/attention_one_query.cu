// Attention of one query a sequence: the last layer, which computes only the row that pooling reads.
//
// Every key and value is read once, so memory is the limit, or its latency where there are few heads: those get large
// blocks. A block takes one head of one sequence; a group of kGroup lanes takes a key at a time, each lane eight
// elements of it, and keeps its own largest score, sum and weighted sum of values, which are joined at the end, first
// within a warp (split keys, as in Flash-Decoding; Dao et al. 2023).
#include <cmath>

#include "backend/cuda/attention.cuh"
#include "backend/cuda/kernels.h"

namespace tandem::backend::cuda {
namespace {

constexpr int kAhead = 4;  // keys whose loads are in flight together

template <class T, int kGroup, int kThreads>
__global__ void __launch_bounds__(kThreads) attention_one_query_kernel(const AttentionCall<T> c) {
  fetch_ahead(c.ahead);
  wait_for_previous();
  let_next_begin();
  constexpr int kGroups = kThreads / kGroup, kWarps = kThreads / 32;
  __shared__ float largest_of[kWarps], sum_of[kWarps];
  __shared__ float values[kWarps][kGroup * 8];
  const int sequence = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y);
  const int group = static_cast<int>(threadIdx.x) / kGroup, lane = static_cast<int>(threadIdx.x) % kGroup;
  const RowRange own = rows_of(c.key_offsets, c.key_longest, sequence);
  const int keys = c.prefix + own.count;
  const bool active = lane * 8 < c.head_dim;
  const std::int64_t column = static_cast<std::int64_t>(head) * c.head_dim + (active ? lane * 8 : 0);
  float q[8], out[8] = {};
  load8(c.q + sequence * c.ldq + column, q);
#pragma unroll
  for (float& x : q) x = active ? x * c.scale : 0;
  float largest = -INFINITY, sum = 0;
  // All lanes of a warp run the same number of rounds: the sums over groups are shuffles.
  for (int begin = 0; begin < keys; begin += kGroups * kAhead) {
    float k[kAhead][8], v[kAhead][8];
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const int key = begin + a * kGroups + group;
      if (key < keys) {
        load8(key_row(c.k, c.ldk, c.prefix_k, c.ldpk, c.prefix, own.first, key) + column, k[a]);
        load8(key_row(c.v, c.ldv, c.prefix_v, c.ldpv, c.prefix, own.first, key) + column, v[a]);
      }
    }
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const bool there = begin + a * kGroups + group < keys;
      float part = 0;
      if (there) {
#pragma unroll
        for (int i = 0; i < 8; ++i) part += q[i] * k[a][i];
        part = active ? part : 0;  // idle lanes read what is not theirs, perhaps NaN
      }
      const float score = warp_sum<kGroup>(part);
      if (there) {
        const float most = fmaxf(largest, score);
        const float base = most == -INFINITY ? 0 : most;
        const float shrink = exp2f(largest - base), p = exp2f(score - base);
        largest = most;
        sum = sum * shrink + p;
#pragma unroll
        for (int i = 0; i < 8; ++i) out[i] = out[i] * shrink + p * v[a][i];
      }
    }
  }
  const int warp = static_cast<int>(threadIdx.x) / 32;
  {
    float most = largest;
#pragma unroll
    for (int d = kGroup; d < 32; d *= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, d));
    const float weight = largest == -INFINITY ? 0 : exp2f(largest - most);  // none: had no keys
    sum *= weight;
#pragma unroll
    for (int d = kGroup; d < 32; d *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, d);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      out[i] *= weight;
#pragma unroll
      for (int d = kGroup; d < 32; d *= 2) out[i] += __shfl_xor_sync(0xffffffffu, out[i], d);
    }
    if (threadIdx.x % 32 < kGroup) {
#pragma unroll
      for (int i = 0; i < 8; ++i) values[warp][lane * 8 + i] = out[i];
    }
    if (threadIdx.x % 32 == 0) largest_of[warp] = most, sum_of[warp] = sum;
  }
  __syncthreads();
  for (int d = static_cast<int>(threadIdx.x); d < c.head_dim; d += kThreads) {
    float most = -INFINITY;
    for (const float m : largest_of) most = fmaxf(most, m);
    float total = 0, value = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      const float weight = sum_of[w] == 0 ? 0 : exp2f(largest_of[w] - most);
      total += weight * sum_of[w], value += weight * values[w][d];
    }
    const std::int64_t at = static_cast<std::int64_t>(head) * c.head_dim + d;
    if (c.inverse != 0) {
      *eight_bit_place(c.out, c.ldo, sequence, at) = __nv_fp8_e4m3(value / total * c.inverse);
      continue;
    }
    c.out[sequence * c.ldo + at] = from_float<T>(c.tf32 ? nearest_tf32(value / total) : value / total);
  }
}

/// Heads of a batch below which a block is large: they leave most multiprocessors without one.
constexpr std::int64_t kFewHeads = 264;

template <class T, int kGroup>
cudaError_t launch(const AttentionArgs& a, const AttentionDevice& device, Queue queue) {
  const dim3 grid(static_cast<unsigned>(a.queries.count), static_cast<unsigned>(a.heads));
  const bool few = a.queries.count * a.heads < kFewHeads && a.keys.longest > 128;
  return few ? launch_kernel(attention_one_query_kernel<T, kGroup, 512>, grid, 512, queue, call_of<T>(a, 1, device))
             : launch_kernel(attention_one_query_kernel<T, kGroup, 128>, grid, 128, queue, call_of<T>(a, 1, device));
}

}  // namespace

cudaError_t attention_one_query(const AttentionArgs& a, const AttentionDevice& device, Queue queue) {
  return with_type(a.q.dtype, [&](auto t) {
    using T = decltype(t);
    return a.head_dim <= 64 ? launch<T, 8>(a, device, queue) : launch<T, 16>(a, device, queue);
  });
}

}  // namespace tandem::backend::cuda
