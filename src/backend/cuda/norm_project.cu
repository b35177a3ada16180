// The end of a tower in one kernel: h = ln(x), y = h W^T, y / |y| (Radford et al. 2021, figure 3), all in float32.
//
// A cluster of blocks takes a few rows of x. Every block normalises them for itself and multiplies them by its share of
// W's rows; the blocks then add up their squares through each other's shared memory. W is read once a cluster: many
// rows together where there are many, one at a time, and by more blocks, where a single vector is waited for.
#include <algorithm>

#include "backend/cuda/cluster.cuh"
#include "backend/cuda/device.cuh"
#include "backend/cuda/kernels.h"
#include "backend/cuda/overlap.cuh"

namespace tandem::backend::cuda {
namespace {

constexpr int kTogether = 4;  // rows of W that a warp multiplies at a time
/// Few rows wait for the weight, which many threads bring; many rows need registers.
constexpr int threads_for(int rows) {
  return rows == 16 ? 256 : 512;
}

/// The call as the kernel sees it.
template <class In>
struct Work {
  const In* x;
  const float *gamma, *beta, *weight;
  float *normalized, *out;
  std::int64_t ldx, ldn, ldw, ldo;
  std::int32_t rows, width, outputs;
  float eps;
  bool normalize;
};

__device__ __forceinline__ unsigned cluster_rank() {
  unsigned rank = 0;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
#endif
  return rank;
}
/// What stands at the same place of another block's shared memory.
__device__ __forceinline__ float value_in_block(const float* here, int rank) {
  float value = 0;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  const std::uint32_t there = in_block(static_cast<std::uint32_t>(__cvta_generic_to_shared(here)), rank);
  asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(value) : "r"(there));
#endif
  return value;
}

/// Sums each of v's over the lanes. The lanes share the work and end up with a part of the sums each: returns the index
/// in v of the one that v[0] became; max(1, kCount / 32) follow it.
template <int kCount>
__device__ __forceinline__ int shared_sums(float (&v)[kCount]) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  int index = 0, count = kCount;
#pragma unroll
  for (int d = 16; d > 0; d /= 2) {
    if (count > 1) {
      count /= 2;
      const bool upper = (lane & d) != 0;
#pragma unroll
      for (int i = 0; i < kCount / 2; ++i) {
        if (i >= count) break;
        const float gives = upper ? v[i] : v[i + count], keeps = upper ? v[i + count] : v[i];
        v[i] = keeps + __shfl_xor_sync(0xffffffffu, gives, d);
      }
      if (upper) index += count;
    } else {
      v[0] += __shfl_xor_sync(0xffffffffu, v[0], d);
    }
  }
  return index;
}

/// A warp's row of x, normalised, to shared memory, and to `normalized` as well where that is not null.
template <class In>
__device__ __forceinline__ void normalise_row(const Work<In>& c, const In* x, const float* gamma, const float* beta,
                                              float* to, float* normalized) {
  constexpr int kUnits = kMostFolded / 256;
  const int first = static_cast<int>(threadIdx.x % 32) * 8;
  float v[kUnits][8];
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
    if (first + u * 256 < c.width) load8(x + first + u * 256, v[u]);
  }
  float mean = 0;
  const float scale = centre_row(v, first, c.width, c.eps, mean);
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
    const int at = first + u * 256;
    if (at >= c.width) break;
    float a[8], b[8];
    load8(gamma + at, a), load8(beta + at, b);
#pragma unroll
    for (int i = 0; i < 8; ++i) v[u][i] = v[u][i] * scale * a[i] + b[i];
    store8(to + at, v[u]);
    if (normalized != nullptr) store8(normalized + at, v[u]);
  }
}

/// Grid: x the blocks of a cluster, y the clusters, kRows rows each. Shared memory: kRows rows of x; gamma and beta
/// where kRows is 1; kRows of a block's share of y.
template <class In, int kRows>
__global__ void __launch_bounds__(threads_for(kRows)) norm_project_kernel(const Work<In> c) {
  constexpr int kThreads = threads_for(kRows), kWarps = kThreads / 32;
  extern __shared__ __align__(16) float memory[];
  __shared__ float squares[kRows];
  const auto blocks = static_cast<int>(gridDim.x), rank = static_cast<int>(cluster_rank());
  const int begin = c.outputs * rank / blocks, end = c.outputs * (rank + 1) / blocks, share = c.outputs / blocks + 1;
  float* const y = memory + (kRows == 1 ? 3 : kRows) * c.width;
  const float *gamma = c.gamma, *beta = c.beta;
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  if (kRows == 1) {  // nobody writes the weights: they are on their way while the kernel in front still runs
    for (int i = static_cast<int>(threadIdx.x); i < c.width; i += kThreads) {
      memory[c.width + i] = gamma[i], memory[2 * c.width + i] = beta[i];
    }
    gamma = memory + c.width, beta = memory + 2 * c.width;
    __syncthreads();
    const auto* first = reinterpret_cast<const char*>(c.weight + begin * c.ldw);
    const std::int64_t bytes = (end - begin) * c.ldw * 4;
    for (std::int64_t at = threadIdx.x * 128; at < bytes; at += kThreads * 128) fetch_line(first + at);
  }
  wait_for_previous();
  let_next_begin();
  const int row0 = static_cast<int>(blockIdx.y) * kRows, rows = min(kRows, c.rows - row0);
  for (int r = warp; r < kRows; r += kWarps) {
    if (r < rows) {
      normalise_row(c, c.x + (row0 + r) * c.ldx, gamma, beta, memory + r * c.width,
                    rank == 0 ? c.normalized + (row0 + r) * c.ldn : nullptr);
    } else {
      for (int i = lane; i < c.width; i += 32) memory[r * c.width + i] = 0;
    }
  }
  __syncthreads();

  for (int first = begin + warp * kTogether; first < end; first += kWarps * kTogether) {
    float sums[kRows * kTogether] = {};
    const float* weight[kTogether];
#pragma unroll
    for (int o = 0; o < kTogether; ++o) weight[o] = c.weight + min(first + o, end - 1) * c.ldw;
    float4 next[kTogether];
    const auto bring = [&](int at) {
#pragma unroll
      for (int o = 0; o < kTogether; ++o) {
        if (at < c.width) next[o] = *reinterpret_cast<const float4*>(weight[o] + at);
      }
    };
    bring(lane * 4);
#pragma unroll(kRows == 1 ? 4 : 1)
    for (int at = lane * 4; at < c.width; at += 128) {
      float4 w[kTogether];
#pragma unroll
      for (int o = 0; o < kTogether; ++o) w[o] = next[o];
      bring(at + 128);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const float4 h = *reinterpret_cast<const float4*>(memory + r * c.width + at);
#pragma unroll
        for (int o = 0; o < kTogether; ++o) {
          float& sum = sums[r * kTogether + o];
          sum = fmaf(h.x, w[o].x, sum), sum = fmaf(h.y, w[o].y, sum);
          sum = fmaf(h.z, w[o].z, sum), sum = fmaf(h.w, w[o].w, sum);
        }
      }
    }
    const int index = shared_sums(sums);
#pragma unroll
    for (int i = 0; i < std::max(1, kRows * kTogether / 32); ++i) {
      const int r = (index + i) / kTogether, o = first + (index + i) % kTogether;
      if (o < end) y[r * share + o - begin] = sums[i];  // of few sums several lanes have the same
    }
  }
  __syncthreads();
  for (int r = warp; r < kRows; r += kWarps) {
    float sum = 0;
    for (int i = lane; i < end - begin; i += 32) sum = fmaf(y[r * share + i], y[r * share + i], sum);
    sum = warp_sum(sum);
    if (lane == 0) squares[r] = sum;
  }
  cluster_sync();
  for (int r = warp; r < rows; r += kWarps) {
    float scale = 1;
    if (c.normalize) {
      float sum = 0;
      for (int block = 0; block < blocks; ++block) sum += value_in_block(squares + r, block);
      scale = 1 / sqrtf(sum);
    }
    float* out = c.out + (row0 + r) * c.ldo + begin;
    for (int i = lane; i < end - begin; i += 32) out[i] = y[r * share + i] * scale;
  }
  cluster_sync();  // others may still read this block's squares
}

std::size_t memory_of(int rows, std::int64_t width, std::int64_t outputs, unsigned blocks) {
  const std::int64_t vectors = rows == 1 ? 2 * width : 0;
  return static_cast<std::size_t>(rows * (width + outputs / blocks + 1) + vectors) * sizeof(float);
}

/// Rows of a cluster and its blocks; sixteen of these are more than devices promise, but Hopper has them.
struct Division {
  int rows;
  unsigned blocks;
};
Division divide(std::int64_t rows) {
  if (rows <= 4) return {1, 16};
  if (rows <= 32) return {4, 16};
  if (rows <= 64) return {4, 8};
  return {16, 8};
}

bool is_aligned(const void* p) {
  return reinterpret_cast<std::uintptr_t>(p) % 16 == 0;
}

template <class In, int kRows>
cudaError_t launch(const NormProjectCall& c, unsigned blocks, Queue queue) {
  const Work<In> w{c.x.as<In>(),
                   c.gamma,
                   c.beta,
                   c.weight,
                   c.normalized.as<float>(),
                   c.out.as<float>(),
                   c.x.stride,
                   c.normalized.stride,
                   c.ldw,
                   c.out.stride,
                   static_cast<std::int32_t>(c.x.rows()),
                   static_cast<std::int32_t>(c.x.columns()),
                   static_cast<std::int32_t>(c.out.columns()),
                   c.eps,
                   c.normalize};
  const auto kernel = norm_project_kernel<In, kRows>;
  const cudaError_t allowed = cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
  if (allowed != cudaSuccess) return allowed;
  return launch_kernel(kernel, dim3(blocks, blocks_for(c.x.rows(), kRows)), threads_for(kRows),
                       static_cast<int>(memory_of(kRows, w.width, w.outputs, blocks)), queue, dim3(blocks), w);
}

}  // namespace

bool norm_project_fits(const NormProjectCall& c) {
  return c.weight != nullptr && vectors_fit(c.x) && vectors_fit(c.normalized) && c.x.columns() <= kMostFolded &&
         c.out.columns() <= 4096 && c.out.columns() > 0 && is_aligned(c.gamma) && is_aligned(c.beta) &&
         c.ldw % 4 == 0 && is_aligned(c.weight);
}

cudaError_t norm_project(const NormProjectCall& c, Queue queue) {
  if (c.x.rows() == 0) return cudaSuccess;
  const Division d = divide(c.x.rows());
  return with_type(c.x.dtype, [&](auto in) {
    using In = decltype(in);
    if (d.rows == 1) return launch<In, 1>(c, d.blocks, queue);
    if (d.rows == 4) return launch<In, 4>(c, d.blocks, queue);
    return launch<In, 16>(c, d.blocks, queue);
  });
}

}  // namespace tandem::backend::cuda
