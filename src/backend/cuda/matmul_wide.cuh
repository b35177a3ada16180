// The kernel of matmul_wide.cu and matmul_eight.cu: products of many tiles, each finished while the next is multiplied.
//
// Kernels that finish a tile before they multiply the next leave the tensor cores waiting for activations, and kernels
// that share them between two smaller tiles spend power on bringing those: whole passes of ViT-L/14@336 took 2 percent
// longer with CUTLASS's of that kind and the same epilogue. Here tiles are large, and one is finished while the next is
// multiplied.
//
// Blocks stay, in clusters of two that take tiles of 256 x kColumns together: each has 128 rows of x to itself, and
// brings half of the weight's rows for both (multicast). Two warpgroups of a block multiply 64 rows each; behind a
// tile's last step they scale, add bias and norm and keep the result in registers, rounded to sixteen bits, which
// halves it. Behind the steps of the next tile, 64 columns at a time, the activation is applied or the residual added
// (which was brought to where the result leaves from), and the result stored, which the tensor cores do not notice. A
// third warpgroup, of which one thread works, brings the tiles.
#pragma once

#include <algorithm>

#include "backend/cuda/cluster.cuh"
#include "backend/cuda/gelu.cuh"
#include "backend/cuda/matmul_wide.h"
#include "backend/cuda/overlap.cuh"
#include "backend/cuda/tensor_map.h"
#include "backend/cuda/wgmma.cuh"

namespace tandem::backend::cuda {
namespace {

constexpr int kRows = 128;  // of a block's tile
constexpr int kBlocks = 2;  // of a cluster
constexpr int kGroups = 2;  // warpgroups that multiply
constexpr int kThreads = (kGroups + 1) * 128;
constexpr int kX = kRows * 128;
constexpr int kPiece = 64 * 128;  // a part of a warpgroup's rows, on its way out

template <class In>
constexpr bool kEight = sizeof(In) == 1;

/// A block's tile of so many columns, and what it takes of shared memory.
template <class In, int kColumns>
struct Wide {
  static constexpr int kDepth = 128 / static_cast<int>(sizeof(In));  // inputs of a stage
  static constexpr int kW = kColumns * 128, kStage = kX + kW, kStages = 192 * 1024 / kStage;
  static constexpr int kParts = kColumns / 64;       // of a tile that are finished one after the other
  static constexpr int kVectors = 2 * kColumns * 4;  // bias, and sums or scales, of a warpgroup's columns
  static constexpr int kMemory = kStages * kStage + kGroups * (kPiece + kVectors) + 1024;
};

/// The call as the kernel sees it.
struct Work {
  const float *bias, *scale, *shift, *sums;  ///< E4M3: sums are the columns' scales, and there is no shift
  std::int32_t rows, outputs, steps;
  std::int32_t columns, tiles;  ///< tiles of a cluster beside each other, and all of them
  ActivationFn fn;
  float alpha = 1;    ///< E4M3: multiplies the columns' scales
  float inverse = 1;  ///< of one step of an E4M3 result
  bool adds = false;  ///< there is a residual
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// The barrier at the same place in one of the two blocks.
__device__ __forceinline__ void arrive_in(std::uint32_t barrier, int block) {
  asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(in_block(barrier, block)) : "memory");
}
/// fetch() to the same place in both blocks, each of which has its barrier there.
__device__ __forceinline__ void fetch_for_both(const CUtensorMap& map, std::uint32_t to, std::uint32_t barrier, int k,
                                               int row) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], "
      "[%1, {%3, %4}], [%2], %5;" ::"r"(to),
      "l"(&map), "r"(barrier), "r"(k), "r"(row), "h"(static_cast<std::uint16_t>(3))
      : "memory");
}
__device__ __forceinline__ void store_tile(const CUtensorMap& map, std::uint32_t from, int column, int row) {
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];" ::"l"(&map), "r"(from),
               "r"(column), "r"(row)
               : "memory");
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
/// What store_tile() was given may be overwritten.
__device__ __forceinline__ void stores_have_read() {
  asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
}

template <class T>
__device__ __forceinline__ float2 unpack2(std::uint32_t v);
template <>
__device__ __forceinline__ float2 unpack2<__half>(std::uint32_t v) {
  return __half22float2(reinterpret_cast<const __half2&>(v));
}
template <>
__device__ __forceinline__ float2 unpack2<__nv_bfloat16>(std::uint32_t v) {
  return {__uint_as_float(v << 16), __uint_as_float(v & 0xffff0000u)};
}

/// A tile's place in `out`.
struct Place {
  int row, column;
};
__device__ __forceinline__ Place place_of(const Work& c, int tile, int block, int columns) {
  return {(tile / c.columns * kBlocks + block) * kRows, tile % c.columns * columns};
}

/// The address of this lane's row of four matrices of 8 x 8, rows 0 and 8, columns 0 and 8, of 16 columns of a piece.
__device__ __forceinline__ std::uint32_t piece_row(std::uint32_t piece, int pair) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) % 128 / 32;
  const int row = warp * 16 + (lane / 8 % 2) * 8 + lane % 8;
  const int unit = pair * 2 + lane / 16;  // of 16 bytes, which the swizzle exchanges
  return piece + static_cast<std::uint32_t>(row * 128 + (unit ^ (row & 7)) * 16);
}

/// A warpgroup's way out.
struct Exit {
  const CUtensorMap &out, &residual;
  std::uint32_t piece, arrived;  ///< where a part leaves from; the barrier of its residual
  int group;
};

/// The residual of a part of a tile, to where the result will leave from. The leader.
__device__ __forceinline__ void bring_residual(const Exit& e, Place place, int part) {
  stores_have_read();
  barrier_expect(e.arrived, kPiece);
  fetch(e.residual, e.piece, e.arrived, place.column + part * 64, place.row + e.group * 64);
}

/// A part of a warpgroup's tile, 64 of its columns, from registers to `out`: `kept` as the products left it, two
/// neighbours of a row in each register, rows lane / 4 and lane / 4 + 8 in turn. All 128 threads.
template <class Kept, class Out, int kPart, int kCount, class Fn>
__device__ __forceinline__ void finish(const std::uint32_t (&kept)[kCount], const Exit& e, Place place, bool adds,
                                       std::uint32_t phase, const Fn& fn) {
  const bool leads = threadIdx.x % 128 == 0;
  if (adds) {
    barrier_wait(e.arrived, phase);
  } else {
    if (leads) stores_have_read();
    asm volatile("bar.sync %0, 128;" ::"r"(e.group + 1) : "memory");
  }
  if constexpr (kEight<Out>) {
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) % 128 / 32;
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      const float2 x = unpack2<Kept>(kept[kPart * 16 + i]);
      const std::uint16_t v = pack_e4m3(fn(x.x), fn(x.y));
      // Rows of 64 bytes: the swizzle exchanges their four units of 16.
      const int row = warp * 16 + lane / 4 + i % 2 * 8, unit = i / 4 ^ (row >> 1 & 3);
      asm volatile("st.shared.u16 [%0], %1;" ::"r"(
                       e.piece + static_cast<std::uint32_t>(row * 64 + unit * 16 + i / 2 % 2 * 8 + lane % 4 * 2)),
                   "h"(v)
                   : "memory");
    }
  } else {
#pragma unroll
    for (int pair = 0; pair < 4; ++pair) {
      const std::uint32_t to = piece_row(e.piece, pair);
      std::uint32_t v[4], before[4];
      if (adds) {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(before[0]), "=r"(before[1]), "=r"(before[2]), "=r"(before[3])
                     : "r"(to)
                     : "memory");
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float2 x = unpack2<Kept>(kept[kPart * 16 + pair * 4 + i]);
        float2 y = {fn(x.x), fn(x.y)};
        if (adds) {
          const float2 r = unpack2<Out>(before[i]);
          y.x += r.x, y.y += r.y;
        }
        v[i] = pack2<Out>(y.x, y.y);
      }
      asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(v[0]), "r"(v[1]),
                   "r"(v[2]), "r"(v[3])
                   : "memory");
    }
  }
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  asm volatile("bar.sync %0, 128;" ::"r"(e.group + 1) : "memory");
  if (leads) store_tile(e.out, e.piece, place.column + kPart * 64, place.row + e.group * 64);
}
template <class Kept, class Out, bool kMayAdd, int kPart, int kCount>
__device__ __forceinline__ void finish(const Work& c, const std::uint32_t (&kept)[kCount], const Exit& e, Place place,
                                       std::uint32_t phase) {
  const bool adds = kMayAdd && c.adds;
  if (c.fn == ActivationFn::quick_gelu) {
    if constexpr (kEight<Out>) {
      const float half = 0.5f * c.inverse;
      finish<Kept, Out, kPart>(kept, e, place, false, phase, [&](float x) { return quick_gelu_scaled(x, half); });
    } else {
      finish<Kept, Out, kPart>(kept, e, place, adds, phase, [](float x) { return quick_gelu_fast(x); });
    }
  } else if (c.fn == ActivationFn::gelu_erf) {
    const float inverse = kEight<Out> ? c.inverse : 1.0f;
    finish<Kept, Out, kPart>(kept, e, place, adds, phase,
                             [&](float x) { return kEight<Out> ? gelu_erf_fast(x) * inverse : gelu_erf_fast(x); });
  } else {
    const float inverse = kEight<Out> ? c.inverse : 1.0f;
    finish<Kept, Out, kPart>(kept, e, place, adds, phase, [&](float x) { return kEight<Out> ? x * inverse : x; });
  }
}

/// Calls f with the numbers of the parts from kFirst to kEnd, as types.
template <int kFirst, int kEnd, class F>
__device__ __forceinline__ void for_parts(const F& f) {
  if constexpr (kFirst < kEnd) {
    f(std::integral_constant<int, kFirst>());
    for_parts<kFirst + 1, kEnd>(f);
  }
}

/// Rounded to T, but not to minus infinity, of which the activations would make NaN.
template <class T>
__device__ __forceinline__ std::uint32_t keep2(float x, float y) {
  std::uint32_t v = pack2<T>(x, y);
  if constexpr (std::is_same_v<T, __half>) asm("max.NaN.f16x2 %0, %0, %1;" : "+r"(v) : "r"(0xfbfffbffu));
  return v;
}

#endif

/// x and the weight of In; what is kept of a tile is Out, or f16 where Out is E4M3.
template <class In, class Out, int kColumns>
__global__ void __launch_bounds__(kThreads, 1)
    wide_kernel(const __grid_constant__ CUtensorMap x, const __grid_constant__ CUtensorMap weight,
                const __grid_constant__ CUtensorMap out, const __grid_constant__ CUtensorMap residual, const Work c) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using Shape = Wide<In, kColumns>;
  using Kept = std::conditional_t<kEight<In>, __half, In>;
  constexpr int kW = Shape::kW, kStage = Shape::kStage, kStages = Shape::kStages, kParts = Shape::kParts;
  constexpr int kDepth = Shape::kDepth, kVectors = Shape::kVectors;
  constexpr bool kMayAdd = kEight<In> && !kEight<Out>;
  extern __shared__ __align__(1024) unsigned char memory[];
  __shared__ __align__(8) std::uint64_t barriers[2 * kStages + kGroups];
  const std::uint32_t ring = (shared_address(memory) + 1023) / 1024 * 1024;
  const std::uint32_t full = shared_address(barriers), empty = full + kStages * 8;
  const int block = static_cast<int>(blockIdx.x) % kBlocks;  // of the cluster
  const int begin = static_cast<int>(blockIdx.x) / kBlocks, stride = static_cast<int>(gridDim.x) / kBlocks;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      barrier_init(full + i * 8, 1);
      barrier_init(empty + i * 8, kGroups * kBlocks);
    }
    for (int i = 0; i < kGroups; ++i) barrier_init(empty + (kStages + i) * 8, 1);
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  cluster_meet();
  __syncthreads();
  let_next_begin();
  wait_for_previous();
  // The same in all lanes, which the compiler cannot know.
  const int group = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 128, 0);

  if (group == kGroups) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
    if (threadIdx.x % 128 == 0) {
      std::uint32_t at = 0, phase = 1;  // the stages are empty
      for (int tile = begin; tile < c.tiles; tile += stride) {
        const Place place = place_of(c, tile, block, kColumns);
        for (int i = 0; i < c.steps; ++i) {
          barrier_wait(empty + at * 8, phase);
          barrier_expect(full + at * 8, kStage);
          const std::uint32_t to = ring + at * kStage;
          fetch(x, to, full + at * 8, i * kDepth, place.row);
          fetch_for_both(weight, to + kX + static_cast<std::uint32_t>(block) * (kW / kBlocks), full + at * 8,
                         i * kDepth, place.column + block * (kColumns / kBlocks));
          if (++at == kStages) at = 0, phase ^= 1;
        }
      }
    }
    __syncwarp();
    cluster_meet();
    return;
  }

  asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
  const int thread = static_cast<int>(threadIdx.x) % 128, warp = thread / 32, lane = thread % 32;
  const std::uint32_t piece = ring + kStages * kStage + static_cast<std::uint32_t>(group) * kPiece;
  const std::uint32_t vectors =
      ring + kStages * kStage + kGroups * kPiece + static_cast<std::uint32_t>(group) * kVectors;
  const std::uint64_t a0 = descriptor(ring + static_cast<std::uint32_t>(group) * 64 * 128, 16, 8 * 128, 1);
  const std::uint64_t b0 = descriptor(ring + kX, 16, 8 * 128, 1);
  const Exit way_out{out, residual, piece, empty + (kStages + static_cast<std::uint32_t>(group)) * 8, group};
  const bool adds = kMayAdd && c.adds;
  std::uint32_t residual_phase = 0;
  float d[kColumns / 2];
  std::uint32_t kept[kColumns / 4];
  Place before{};
  bool keeps = false;
  std::uint32_t at = 0, last = 0, phase = 0;
  const auto release = [&](std::uint32_t stage) {
    if (thread < kBlocks) arrive_in(empty + stage * 8, thread);
  };
  for (int tile = begin; tile < c.tiles; tile += stride) {
    const Place place = place_of(c, tile, block, kColumns);
    // For the end of this tile, under way from now on: what belongs to a thread's rows, and its share of the columns'.
    float scale[2] = {1, 1}, shift[2] = {0, 0}, of_columns[2 * kColumns / 128] = {};
    if (c.scale != nullptr) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = place.row + group * 64 + warp * 16 + lane / 4 + 8 * half;
        if (row >= c.rows) continue;
        scale[half] = c.scale[row];
        if constexpr (!kEight<In>) shift[half] = c.shift[row];
      }
    }
#pragma unroll
    for (int i = 0; i < kColumns / 128; ++i) {
      const int column = place.column + thread + 128 * i;
      if (column < c.outputs) {
        if (c.bias != nullptr) of_columns[i] = c.bias[column];
        if constexpr (kEight<In>) {
          of_columns[kColumns / 128 + i] = c.sums[column] * c.alpha;
        } else if (c.scale != nullptr) {
          of_columns[kColumns / 128 + i] = c.sums[column];
        }
      }
    }
    const auto step = [&](int i) {
      barrier_wait(full + at * 8, phase);
      const std::uint64_t a = a0 + at * (kStage / 16), b = b0 + at * (kStage / 16);
      hold(d);
      products_begin();
#pragma unroll
      for (int k = 0; k < 4; ++k) {  // the inputs of the next product are 32 bytes on, in units of 16
        product<typename SharedProduct<In, kColumns>::Op>(a + 2 * k, b + 2 * k, d,
                                                          i == 0 && k == 0 ? ScaleOut::Zero : ScaleOut::One);
      }
      products_commit();
    };
    const auto settle = [&](int i) {
      products_wait<1>();  // the step before
      hold(d);
      if (i > 0) release(last);
      last = at;
      if (++at == kStages) at = 0, phase ^= 1;
    };
    const auto part = [&](auto which) {
      constexpr int kPart = decltype(which)::value;
      const int end = c.steps * (kPart + 1) / kParts;
      int i = c.steps * kPart / kParts;
      step(i);
      // Not at the same time as the other warpgroup: one of them feeds the tensor cores.
      if (group == 1 && i + 1 < end) {
        settle(i);
        step(++i);
      }
      if (keeps) {
        finish<Kept, Out, kMayAdd, kPart>(c, kept, way_out, before, residual_phase);
        if (adds) residual_phase ^= 1;
      }
      settle(i);
      // By now the part has left, and the next one has a step to arrive.
      if (kPart + 1 < kParts && adds && keeps && thread == 0) bring_residual(way_out, before, kPart + 1);
      for (++i; i < end; ++i) {
        step(i);
        settle(i);
      }
    };
    for_parts<0, 1>(part);
    // The last tile's are read: its end lies before the barriers of this part.
#pragma unroll
    for (int i = 0; i < 2 * kColumns / 128; ++i) {
      const int to = (thread + 128 * i) * 4;
      asm volatile("st.shared.f32 [%0], %1;" ::"r"(vectors + static_cast<std::uint32_t>(to)), "f"(of_columns[i])
                   : "memory");
    }
    for_parts<1, kParts>(part);
    asm volatile("bar.sync %0, 128;" ::"r"(group + 1) : "memory");  // the columns' values are there
    products_wait<0>();
    hold(d);
    release(last);
#pragma unroll
    for (int j = 0; j < kColumns / 8; ++j) {
      float2 bias, sums;
      const std::uint32_t from = vectors + static_cast<std::uint32_t>((j * 8 + lane % 4 * 2) * 4);
      asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(bias.x), "=f"(bias.y) : "r"(from));
      asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(sums.x), "=f"(sums.y) : "r"(from + kColumns * 4));
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float x = d[4 * j + 2 * half], y = d[4 * j + 2 * half + 1];
        if constexpr (kEight<In>) {
          kept[2 * j + half] =
              keep2<Kept>(fmaf(x * scale[half], sums.x, bias.x), fmaf(y * scale[half], sums.y, bias.y));
        } else {
          kept[2 * j + half] = keep2<Kept>(fmaf(x, scale[half], fmaf(shift[half], sums.x, bias.x)),
                                           fmaf(y, scale[half], fmaf(shift[half], sums.y, bias.y)));
        }
      }
    }
    before = place, keeps = true;
    if (adds && thread == 0) bring_residual(way_out, before, 0);
  }
  if (keeps) {
    for_parts<0, kParts>([&](auto which) {
      constexpr int kPart = decltype(which)::value;
      finish<Kept, Out, kMayAdd, kPart>(c, kept, way_out, before, residual_phase);
      if (!adds) return;
      residual_phase ^= 1;
      if (kPart + 1 < kParts && thread == 0) bring_residual(way_out, before, kPart + 1);
    });
    if (thread == 0) stores_have_read();
  }
  __syncwarp();
  cluster_meet();  // the other block may still release a stage here
#endif
}

/// The tiles of a call, without its scales.
template <class In, int kColumns>
Work work_of(std::int64_t rows, std::int64_t outputs, std::int64_t inputs) {
  using Shape = Wide<In, kColumns>;
  Work w{};
  w.rows = static_cast<std::int32_t>(rows), w.outputs = static_cast<std::int32_t>(outputs);
  w.steps = static_cast<std::int32_t>((inputs + Shape::kDepth - 1) / Shape::kDepth);
  w.columns = static_cast<std::int32_t>((outputs + kColumns - 1) / kColumns);
  w.tiles = static_cast<std::int32_t>((rows + kBlocks * kRows - 1) / (kBlocks * kRows)) * w.columns;
  return w;
}

template <class In, class Out, int kColumns>
cudaError_t launch_wide(const CUtensorMap& x, const CUtensorMap& weight, const CUtensorMap& out,
                        const CUtensorMap& residual, const Work& w, int processors, Queue queue) {
  const int clusters = std::min(w.tiles, std::max(1, processors / kBlocks));
  return launch_kernel(wide_kernel<In, Out, kColumns>, dim3(static_cast<unsigned>(clusters * kBlocks)), kThreads,
                       Wide<In, kColumns>::kMemory, queue, dim3(kBlocks), x, weight, out, residual, w);
}

}  // namespace
}  // namespace tandem::backend::cuda
