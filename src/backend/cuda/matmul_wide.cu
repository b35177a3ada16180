// out = fn(scale (x W^T) + shift sums^T + bias) on Hopper, for products of many tiles. Kernels that finish a tile
// before they multiply the next leave the tensor cores waiting for activations, and kernels that share them between two
// smaller tiles spend power on bringing those: whole passes of ViT-L/14@336 took 2 percent longer with CUTLASS's of
// that kind and the same epilogue. Here tiles are large, and one is finished while the next is multiplied.
//
// Blocks stay, in clusters of two that take tiles of 256 x 256 together: each has 128 rows of x to itself, and brings
// half of the weight's rows for both (multicast). Two warpgroups of a block multiply 64 rows each; behind a tile's last
// step they add bias and norm and keep the result in registers, rounded to sixteen bits, which halves it. Behind the
// steps of the next tile, a quarter at a time, the activation is applied and the result stored, which the tensor
// cores do not notice. A third warpgroup, of which one thread works, brings the tiles.
#include <algorithm>

#include "backend/cuda/cluster.cuh"
#include "backend/cuda/gelu.cuh"
#include "backend/cuda/matmul_wide.h"
#include "backend/cuda/overlap.cuh"
#include "backend/cuda/tensor_map.h"
#include "backend/cuda/wgmma.cuh"

namespace tandem::backend::cuda {
namespace {

constexpr int kRows = 128, kColumns = 256;  // of a block's tile
constexpr int kDepth = kTileColumns;        // inputs of a stage
constexpr int kBlocks = 2;                  // of a cluster
constexpr int kGroups = 2;                  // warpgroups that multiply
constexpr int kThreads = (kGroups + 1) * 128;
constexpr int kX = kRows * 128, kW = kColumns * 128, kStage = kX + kW, kStages = 4;
constexpr int kParts = kColumns / 64;       // of a tile that are finished one after the other
constexpr int kPiece = 64 * 128;            // a part of a warpgroup's rows, on its way out
constexpr int kVectors = 2 * kColumns * 4;  // bias and sums of a warpgroup's columns
constexpr int kMemory = kStages * kStage + kGroups * (kPiece + kVectors) + 1024;

/// The call as the kernel sees it.
struct Work {
  const float *bias, *scale, *shift, *sums;
  std::int32_t rows, outputs, steps;
  std::int32_t columns, tiles;  ///< tiles of a cluster beside each other, and all of them
  ActivationFn fn;
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
__device__ __forceinline__ Place place_of(const Work& c, int tile, int block) {
  return {(tile / c.columns * kBlocks + block) * kRows, tile % c.columns * kColumns};
}

/// A part of a warpgroup's tile, 64 of its columns, from registers to `out`: `kept` as the products left it, two
/// neighbours of a row in each register, rows lane / 4 and lane / 4 + 8 in turn. All 128 threads.
template <class T, int kPart, class Fn>
__device__ __forceinline__ void finish(const std::uint32_t (&kept)[kColumns / 4], const CUtensorMap& out,
                                       std::uint32_t piece, Place place, int group, const Fn& fn) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) % 128 / 32;
  const bool leads = threadIdx.x % 128 == 0;
  if (leads) stores_have_read();
  asm volatile("bar.sync %0, 128;" ::"r"(group + 1) : "memory");
  // A lane gives the address of a row of one of four matrices of 8 x 8: rows 0 and 8, columns 0 and 8.
  const int row = warp * 16 + (lane / 8 % 2) * 8 + lane % 8;
#pragma unroll
  for (int pair = 0; pair < 4; ++pair) {
    std::uint32_t v[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 x = unpack2<T>(kept[kPart * 16 + pair * 4 + i]);
      v[i] = pack2<T>(fn(x.x), fn(x.y));
    }
    const int unit = pair * 2 + lane / 16;  // of 16 bytes, which the swizzle exchanges
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(
                     piece + static_cast<std::uint32_t>(row * 128 + (unit ^ (row & 7)) * 16)),
                 "r"(v[0]), "r"(v[1]), "r"(v[2]), "r"(v[3])
                 : "memory");
  }
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  asm volatile("bar.sync %0, 128;" ::"r"(group + 1) : "memory");
  if (leads) store_tile(out, piece, place.column + kPart * 64, place.row + group * 64);
}
template <class T, int kPart>
__device__ __forceinline__ void finish(ActivationFn fn, const std::uint32_t (&kept)[kColumns / 4],
                                       const CUtensorMap& out, std::uint32_t piece, Place place, int group) {
  if (fn == ActivationFn::quick_gelu) {
    finish<T, kPart>(kept, out, piece, place, group, [](float x) { return quick_gelu_fast(x); });
  } else if (fn == ActivationFn::gelu_erf) {
    finish<T, kPart>(kept, out, piece, place, group, [](float x) { return gelu_erf_fast(x); });
  } else {
    finish<T, kPart>(kept, out, piece, place, group, [](float x) { return x; });
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

template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    wide_kernel(const __grid_constant__ CUtensorMap x, const __grid_constant__ CUtensorMap weight,
                const __grid_constant__ CUtensorMap out, const Work c) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) unsigned char memory[];
  __shared__ __align__(8) std::uint64_t barriers[2 * kStages];
  const std::uint32_t ring = (shared_address(memory) + 1023) / 1024 * 1024;
  const std::uint32_t full = shared_address(barriers), empty = full + kStages * 8;
  const int block = static_cast<int>(blockIdx.x) % kBlocks;  // of the cluster
  const int begin = static_cast<int>(blockIdx.x) / kBlocks, stride = static_cast<int>(gridDim.x) / kBlocks;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      barrier_init(full + i * 8, 1);
      barrier_init(empty + i * 8, kGroups * kBlocks);
    }
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
        const Place place = place_of(c, tile, block);
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
  float d[kColumns / 2];
  std::uint32_t kept[kColumns / 4];
  Place before{};
  bool keeps = false;
  std::uint32_t at = 0, last = 0, phase = 0;
  const auto release = [&](std::uint32_t stage) {
    if (thread < kBlocks) arrive_in(empty + stage * 8, thread);
  };
  for (int tile = begin; tile < c.tiles; tile += stride) {
    const Place place = place_of(c, tile, block);
    // For the end of this tile, under way from now on: what belongs to a thread's rows, and its share of the columns'.
    float scale[2] = {1, 1}, shift[2] = {0, 0}, of_columns[4] = {};
    if (c.scale != nullptr) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = place.row + group * 64 + warp * 16 + lane / 4 + 8 * half;
        if (row < c.rows) scale[half] = c.scale[row], shift[half] = c.shift[row];
      }
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int column = place.column + thread + 128 * i;
      if (column < c.outputs) {
        if (c.bias != nullptr) of_columns[i] = c.bias[column];
        if (c.scale != nullptr) of_columns[2 + i] = c.sums[column];
      }
    }
    const auto step = [&](int i) {
      barrier_wait(full + at * 8, phase);
      const std::uint64_t a = a0 + at * (kStage / 16), b = b0 + at * (kStage / 16);
      hold(d);
      products_begin();
#pragma unroll
      for (int k = 0; k < kDepth / 16; ++k) {  // the next 16 inputs are 32 bytes on, in units of 16
        product<typename SharedProduct<T, kColumns>::Op>(a + 2 * k, b + 2 * k, d,
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
      if (keeps) finish<T, kPart>(c.fn, kept, out, piece, before, group);
      settle(i);
      for (++i; i < end; ++i) {
        step(i);
        settle(i);
      }
    };
    for_parts<0, 1>(part);
    // The last tile's are read: its end lies before the barriers of this part.
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int to = (i % 2 * 128 + thread + i / 2 * kColumns) * 4;
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
        kept[2 * j + half] = keep2<T>(fmaf(d[4 * j + 2 * half], scale[half], fmaf(shift[half], sums.x, bias.x)),
                                      fmaf(d[4 * j + 2 * half + 1], scale[half], fmaf(shift[half], sums.y, bias.y)));
      }
    }
    before = place, keeps = true;
  }
  if (keeps) {
    for_parts<0, kParts>([&](auto which) { finish<T, decltype(which)::value>(c.fn, kept, out, piece, before, group); });
    if (thread == 0) stores_have_read();
  }
  __syncwarp();
  cluster_meet();  // the other block may still release a stage here
#endif
}

template <class T>
cudaError_t run(const WideCall& c, Queue queue) {
  CUtensorMap x, weight, out;
  if (!describe_tiles(c.x, c.type, c.rows, c.inputs, c.ldx, kRows, x) ||
      !describe_tiles(c.weight, c.type, c.outputs, c.inputs, c.ldw, kColumns / kBlocks, weight) ||
      !describe_tiles(c.out, c.type, c.rows, c.outputs, c.ldo, 64, out)) {
    return cudaErrorNotSupported;
  }
  Work w;
  w.bias = c.bias, w.scale = c.scale, w.shift = c.shift, w.sums = c.sums, w.fn = c.fn;
  w.rows = static_cast<std::int32_t>(c.rows), w.outputs = static_cast<std::int32_t>(c.outputs);
  w.steps = static_cast<std::int32_t>((c.inputs + kDepth - 1) / kDepth);
  w.columns = static_cast<std::int32_t>((c.outputs + kColumns - 1) / kColumns);
  w.tiles = static_cast<std::int32_t>((c.rows + kBlocks * kRows - 1) / (kBlocks * kRows)) * w.columns;
  const int clusters = std::min(w.tiles, c.processors / kBlocks);
  return launch_kernel(wide_kernel<T>, dim3(static_cast<unsigned>(clusters * kBlocks)), kThreads, kMemory, queue,
                       dim3(kBlocks), x, weight, out, w);
}

}  // namespace

bool wide_fits(std::int64_t rows, std::int64_t outputs, std::int64_t inputs) {
  return inputs > (kParts - 1) * kDepth && outputs >= 8 && rows > 1 && rows < (std::int64_t{1} << 31) &&
         (rows + kRows) / kRows * (outputs + kColumns) / kColumns < (std::int64_t{1} << 30);
}

bool wide_fills(std::int64_t rows, std::int64_t outputs, int processors) {
  const std::int64_t clusters = std::max(1, processors / kBlocks);
  const std::int64_t tiles = (rows + kBlocks * kRows - 1) / (kBlocks * kRows) * ((outputs + kColumns - 1) / kColumns);
  const std::int64_t waves = (tiles + clusters - 1) / clusters;
  return 5 * tiles >= 4 * waves * clusters;
}

cudaError_t wide_product(const WideCall& c, Queue queue) {
  if (c.rows == 0 || c.outputs == 0) return cudaSuccess;
  if (c.type == DType::f16) return run<__half>(c, queue);
  if (c.type == DType::bf16) return run<__nv_bfloat16>(c, queue);
  return cudaErrorInvalidValue;
}

}  // namespace tandem::backend::cuda
