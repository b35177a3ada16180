// What the attention kernels share: where a sequence's rows are.
#pragma once

#include <cmath>

#include "backend/backend.h"
#include "backend/cuda/device.cuh"
#include "backend/cuda/kernels.h"
#include "backend/cuda/overlap.cuh"

namespace tandem::backend::cuda {

template <class T>
struct AttentionCall {
  const T *q, *k, *v, *prefix_k, *prefix_v;
  T* out;
  std::int64_t ldq, ldk, ldv, ldpk, ldpv, ldo;
  const std::int32_t *query_offsets, *key_offsets;  // null: uniform
  std::int32_t query_longest, key_longest, prefix, head_dim, tiles;
  float scale;  // log2(e) / sqrt(head_dim): weights are 2^(scale (s - max))
  bool causal;
  bool tf32;      // round what is written
  float inverse;  // of one step of E4M3 outputs; 0: they are T
  Ahead ahead;
};

/// Scores times this are the exponents of two: log2(e) / sqrt(head_dim).
inline float exponent_scale(int head_dim) {
  return static_cast<float>(1.4426950408889634 / std::sqrt(static_cast<double>(head_dim)));
}

template <class T>
AttentionCall<T> call_of(const AttentionArgs& a, int tile_rows, const AttentionDevice& device) {
  AttentionCall<T> c;
  c.q = a.q.as<T>(), c.k = a.k.as<T>(), c.v = a.v.as<T>(), c.out = a.out.as<T>();
  c.prefix_k = a.prefix_k.as<T>(), c.prefix_v = a.prefix_v.as<T>();
  c.ldq = a.q.stride, c.ldk = a.k.stride, c.ldv = a.v.stride, c.ldo = a.out.stride;
  c.ldpk = a.prefix_k.stride, c.ldpv = a.prefix_v.stride;
  c.query_offsets = a.queries.offsets, c.key_offsets = a.keys.offsets;
  c.query_longest = static_cast<std::int32_t>(a.queries.longest);
  c.key_longest = static_cast<std::int32_t>(a.keys.longest);
  c.prefix = a.prefix_k ? static_cast<std::int32_t>(a.prefix_k.rows()) : 0;
  c.head_dim = a.head_dim;
  c.tiles = (c.query_longest + tile_rows - 1) / tile_rows;
  c.scale = exponent_scale(a.head_dim);
  c.causal = a.causal, c.tf32 = a.precision == Precision::tf32, c.ahead = device.ahead;
  c.inverse = device.step > 0 ? 1 / device.step : 0;
  return c;
}

/// Element `column` of row `row` of an E4M3 result: rows begin where those of T would.
template <class T>
__device__ inline __nv_fp8_e4m3* eight_bit_place(T* out, std::int64_t ldo, std::int64_t row, std::int64_t column) {
  return reinterpret_cast<__nv_fp8_e4m3*>(out + row * ldo) + column;
}

/// A block for every tile of queries of every head.
template <class T>
cudaError_t launch_tiles(void (*kernel)(AttentionCall<T>), const AttentionArgs& a, int tile_rows, int threads,
                         int shared, const AttentionDevice& device, Queue queue) {
  const auto c = call_of<T>(a, tile_rows, device);
  const dim3 grid(static_cast<unsigned>(c.tiles * a.queries.count), static_cast<unsigned>(a.heads));
  return launch_kernel(kernel, grid, threads, shared, queue, dim3(1), c);
}

/// A sequence's own rows.
struct RowRange {
  std::int64_t first;
  std::int32_t count;
};
__device__ inline RowRange rows_of(const std::int32_t* offsets, std::int32_t longest, std::int32_t sequence) {
  if (offsets == nullptr) return {static_cast<std::int64_t>(sequence) * longest, longest};
  return {offsets[sequence], offsets[sequence + 1] - offsets[sequence]};
}

/// Key (or value) i of a sequence, the shared prefix first.
template <class T>
__device__ inline const T* key_row(const T* own, std::int64_t ld, const T* prefix_rows, std::int64_t ldp,
                                   std::int32_t prefix, std::int64_t first, std::int32_t i) {
  return i < prefix ? prefix_rows + i * ldp : own + (first + i - prefix) * ld;
}

}  // namespace tandem::backend::cuda
