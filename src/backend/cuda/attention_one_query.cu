// Attention of one query a sequence: the last layer, which computes only the row that pooling reads.
//
// Every key and value is read once, so memory is the limit. A block takes one head of one sequence; a group of kGroup
// lanes takes a key at a time, each lane eight elements of it, and keeps its own largest score, sum and weighted sum
// of values, which are joined at the end (split keys, as in Flash-Decoding; Dao et al. 2023).
#include <cmath>

#include "backend/cuda/attention.cuh"
#include "backend/cuda/kernels.h"

namespace tandem::backend::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kAhead = 4;  // keys whose loads are in flight together

template <class T, int kGroup>
__global__ void __launch_bounds__(kThreads) attention_one_query_kernel(const AttentionCall<T> c) {
  wait_for_previous();
  let_next_begin();
  constexpr int kGroups = kThreads / kGroup;
  __shared__ float largest_of[kGroups], sum_of[kGroups];
  __shared__ float values[kGroups][kGroup * 8];
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
#pragma unroll
  for (int i = 0; i < 8; ++i) values[group][lane * 8 + i] = out[i];
  if (lane == 0) largest_of[group] = largest, sum_of[group] = sum;
  __syncthreads();
  float most = -INFINITY;
#pragma unroll
  for (const float m : largest_of) most = fmaxf(most, m);
  const float base = most == -INFINITY ? 0 : most;
  for (int d = static_cast<int>(threadIdx.x); d < c.head_dim; d += kThreads) {
    float total = 0, value = 0;
    for (int g = 0; g < kGroups; ++g) {
      if (sum_of[g] == 0) continue;  // had no keys
      const float weight = exp2f(largest_of[g] - base);
      total += weight * sum_of[g], value += weight * values[g][d];
    }
    c.out[sequence * c.ldo + static_cast<std::int64_t>(head) * c.head_dim + d] = from_float<T>(value / total);
  }
}

}  // namespace

cudaError_t attention_one_query(const AttentionArgs& a, Queue queue) {
  return with_type(a.q.dtype, [&](auto t) {
    using T = decltype(t);
    const auto c = call_of<T>(a, 1);
    const dim3 grid(static_cast<unsigned>(a.queries.count), static_cast<unsigned>(a.heads));
    return launch_kernel(a.head_dim <= 64 ? attention_one_query_kernel<T, 8> : attention_one_query_kernel<T, 16>, grid,
                         kThreads, queue, c);
  });
}

}  // namespace tandem::backend::cuda
