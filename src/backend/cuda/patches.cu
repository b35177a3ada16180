// The two sides of patch embedding that are no product: the matrix of patches, and what the product is added to.
//
//   tokens[b, 1 + p] = alpha W' (pixels(b, p) - centre) + bias' + position[1 + p]       (Dosovitskiy et al. 2021)
//
// Pixels minus their rounded mean are whole numbers of at most 255, which fp16 and bf16 hold exactly; normalisation is
// folded into W', alpha and bias' (weights.cc). Class tokens have a row of zeros in the matrix of patches, so that one
// product with contiguous rows writes every token.
#include "backend/cuda/device.cuh"
#include "backend/cuda/kernels.h"
#include "backend/cuda/overlap.cuh"

namespace tandem::backend::cuda {
namespace {

constexpr int kThreads = 256;

/// A thread makes 8 neighbouring elements of one row of patches.
template <class T>
__device__ __forceinline__ void patch_row(const PatchRowsCall& c, std::int64_t i) {
  const std::int64_t units = c.columns / 8, grid = c.side / c.patch, tokens = grid * grid + c.first;
  if (i >= c.images * tokens * units) return;
  const std::int64_t row = i / units, image = row / tokens;
  const int begin = static_cast<int>(i % units) * 8, strip = c.patch * 3, used = strip * c.patch;
  const int patch = static_cast<int>(row % tokens) - c.first;
  float v[8] = {};
  if (patch >= 0) {
    const std::int64_t top = patch / grid * c.patch, left = patch % grid * c.patch;
    const std::uint8_t* corner = c.pixels + ((image * c.side + top) * c.side + left) * 3;
    const std::int64_t line = c.side * 3;
    const int y = begin / strip, x = begin % strip;
    const std::uint8_t* p = corner + y * line + x;
    std::uint8_t bytes[8] = {};
    if (x + 8 <= strip && begin + 8 <= used && reinterpret_cast<std::uintptr_t>(p) % 8 == 0) {
      *reinterpret_cast<uint2*>(bytes) = *reinterpret_cast<const uint2*>(p);
    } else {
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        const int at = begin + k;
        if (at < used) bytes[k] = corner[at / strip * line + at % strip];
      }
    }
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      const int channel = (begin + k) % 3;
      const float centre = channel == 0 ? c.centre[0] : channel == 1 ? c.centre[1] : c.centre[2];
      v[k] = begin + k < used ? static_cast<float>(bytes[k]) - centre : 0;
    }
  }
  store8(static_cast<T*>(c.out) + row * c.columns + begin, v);
}

template <class T, int kWidth>
__device__ __forceinline__ void position_row(const PositionRowsCall& c, std::int64_t units, std::int64_t i) {
  if (i >= c.images * c.tokens * units) return;
  const std::int64_t row = i / units, column = i % units * kWidth, token = row % c.tokens;
  float position[kWidth], other[kWidth];
  load<kWidth>(c.position + token * c.position_stride + column, position);
  load<kWidth>((token < c.first ? c.class_embedding : c.bias) + column, other);
#pragma unroll
  for (int k = 0; k < kWidth; ++k) position[k] += other[k];
  store<kWidth>(reinterpret_cast<T*>(c.out.data) + row * c.out.stride + column, position);
}

/// The first `patch_blocks` blocks make the one matrix, the others the other: two small kernels in one.
template <class T, class Out, int kWidth>
__global__ void __launch_bounds__(kThreads) embed_kernel(const PatchRowsCall patches, const PositionRowsCall positions,
                                                         unsigned patch_blocks, std::int64_t units) {
  wait_for_previous();
  let_next_begin();
  if (blockIdx.x < patch_blocks) {
    patch_row<T>(patches, static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x);
  } else {
    position_row<Out, kWidth>(positions, units,
                              static_cast<std::int64_t>(blockIdx.x - patch_blocks) * kThreads + threadIdx.x);
  }
}

bool aligned(const void* p) {
  return reinterpret_cast<std::uintptr_t>(p) % 16 == 0;
}

}  // namespace

cudaError_t patch_and_position_rows(const PatchRowsCall& p, const PositionRowsCall& c, Queue queue) {
  const std::int64_t grid = p.side / p.patch, rows = c.images * c.tokens;
  const std::int64_t work = p.images * (grid * grid + p.first) * (p.columns / 8);
  if (work == 0 || rows == 0) return cudaSuccess;
  const bool vectors = vectors_fit(c.out) && c.position_stride % 8 == 0 && aligned(c.position) && aligned(c.bias) &&
                       aligned(c.class_embedding);
  const std::int64_t units = c.out.columns() / (vectors ? 8 : 1);
  const unsigned patch_blocks = blocks_for(work, kThreads), blocks = patch_blocks + blocks_for(rows * units, kThreads);
  return with_type(p.type, [&](auto t) {
    return with_type(c.out.dtype, [&](auto out) -> cudaError_t {
      using T = decltype(t);
      using Out = decltype(out);
      // A sixteen-bit type never becomes the other one.
      if constexpr (sizeof(T) == 2 && sizeof(Out) == 2 && !std::is_same_v<T, Out>) {
        return cudaErrorInvalidValue;
      } else {
        return launch_kernel(vectors ? embed_kernel<T, Out, 8> : embed_kernel<T, Out, 1>, blocks, kThreads, queue, p, c,
                             patch_blocks, units);
      }
    });
  });
}

}  // namespace tandem::backend::cuda
