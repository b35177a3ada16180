// out = fn(alpha scales (x W^T) + bias) + residual on Hopper, for products of one wave: every block is on a
// multiprocessor at once, so what counts is how soon the first tile arrives, how often the caches are read, and how
// soon the next kernel can begin.
//
// A block is one warp that brings tiles of x and W with the tensor memory accelerator into a ring of stages, and a
// warpgroup for every 64 rows, which multiplies them (wgmma) and applies the epilogue. The weight's first tiles are
// fetched while the kernel in front still runs: nobody writes weights. Blocks that divide the inputs (split K) are a
// cluster: they leave their sums in shared memory, where each of them adds up a share of the rows, always in the same
// order.
#include <algorithm>

#include "backend/cuda/cluster.cuh"
#include "backend/cuda/gelu.cuh"
#include "backend/cuda/matmul_one_wave.h"
#include "backend/cuda/overlap.cuh"
#include "backend/cuda/tensor_map.h"
#include "backend/cuda/wgmma.cuh"

namespace tandem::backend::cuda {
namespace {

/// Inputs of a stage: 128 bytes.
template <class T>
constexpr int kDepth = 128 / static_cast<int>(sizeof(T));
constexpr int depth_of(DType in) {
  return 128 / static_cast<int>(size_of(in));
}
constexpr int kRing = 200 * 1024;
constexpr int kMostParts = 8;  // of the inputs: blocks of a cluster

template <int kRows, int kColumns>
struct Tile {
  static constexpr int kColumnsOfTile = kColumns;
  static constexpr int kGroups = kRows / 64;
  static constexpr int kThreads = kGroups * 128 + 32;
  static constexpr int kX = kRows * 128, kW = kColumns * 128, kStage = kX + kW;
  static constexpr int kStages = kRing / kStage < 8 ? kRing / kStage : 8;
  /// Sums on their way to the epilogue, where the stages were; eight more columns keep the banks apart.
  static constexpr int kPitch = kColumnsOfTile + 8;
  static constexpr int kSums = kRows * kPitch * 4;
  static constexpr int kMemory = (kStages * kStage > kSums ? kStages * kStage : kSums) + 1024;
};

/// The call as the kernel sees it.
struct Work {
  const float* bias;
  const void* residual;
  void* out;
  std::int64_t ldr, ldo;
  std::int32_t rows, outputs, steps;
  float alpha;
  ActivationFn fn;
  DType type;                               // of out and residual
  const float *row_scales, *column_scales;  // E4M3; no row_scales: ones
  float inverse;                            // of one step of an E4M3 result
  Ahead ahead;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// Eight elements as they lie in memory.
template <class Out>
struct Raw {
  uint4 words[(sizeof(Out) + 1) / 2];
};
template <class Out>
__device__ __forceinline__ void add(const Raw<Out>& raw, float (&v)[8]) {
  float other[8];
  load8(reinterpret_cast<const Out*>(&raw), other);
#pragma unroll
  for (int i = 0; i < 8; ++i) v[i] += other[i];
}

__device__ __forceinline__ void load_sums(std::uint32_t from, float (&v)[8]) {
  asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(v[0]), "=f"(v[1]), "=f"(v[2]), "=f"(v[3])
               : "r"(from));
  asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(v[4]), "=f"(v[5]), "=f"(v[6]), "=f"(v[7])
               : "r"(from + 16));
}

/// From sums in the shared memory of `parts` blocks to the result: units of eight neighbours, from `begin` on, every
/// `stride`-th of them until `end`. Loads of several units are under way together.
template <class Out, class Tile, bool kScaled, class Where>
__device__ __forceinline__ void finish(const Work& c, int row0, int column0, const float* bias, const float* scales,
                                       const float* row_scales, std::uint32_t sums, int parts, const Where& where,
                                       int begin, int end, int stride) {
  constexpr bool kEightBits = sizeof(Out) == 1;  // of which nothing is added to a residual
  constexpr int kUnits = Tile::kColumnsOfTile / 8, kTogether = 4;
  const Out* residual = static_cast<const Out*>(c.residual);
  for (int first = begin; first < end; first += kTogether * stride) {
    Raw<Out> before[kTogether];
    float v[kTogether][8];
    bool there[kTogether];
    int row[kTogether], column[kTogether];
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      const int u = first + i * stride;
      row[i] = u / kUnits, column[i] = u % kUnits * 8;
      there[i] = u < end && row0 + row[i] < c.rows && column0 + column[i] < c.outputs;
      if (!kEightBits && there[i] && residual != nullptr) {
        before[i] = *reinterpret_cast<const Raw<Out>*>(residual + (row0 + row[i]) * c.ldr + column0 + column[i]);
      }
    }
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      if (there[i]) load_sums(where(sums + (row[i] * Tile::kPitch + column[i]) * 4, 0), v[i]);
    }
    for (int part = 1; part < parts; ++part) {
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        if (!there[i]) continue;
        float more[8];
        load_sums(where(sums + (row[i] * Tile::kPitch + column[i]) * 4, part), more);
#pragma unroll
        for (int k = 0; k < 8; ++k) v[i][k] += more[k];
      }
    }
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      if (!there[i]) continue;
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        if constexpr (kScaled) v[i][k] *= scales[column[i] + k] * row_scales[row[i]];
        v[i][k] = v[i][k] * c.alpha + bias[column[i] + k];
      }
      if (c.fn == ActivationFn::quick_gelu) {
#pragma unroll
        for (float& x : v[i]) x = quick_gelu_fast(x);
      } else if (c.fn == ActivationFn::gelu_erf) {
#pragma unroll
        for (float& x : v[i]) x = gelu_erf_fast(x);
      }
      if constexpr (kEightBits) {
#pragma unroll
        for (float& x : v[i]) x *= c.inverse;
      } else {
        if (residual != nullptr) add(before[i], v[i]);
      }
      store8(static_cast<Out*>(c.out) + (row0 + row[i]) * c.ldo + column0 + column[i], v[i]);
    }
  }
}

#endif

/// Grid: x one below the other, y side by side, z over the inputs, which is the cluster as well.
template <class T, int kRows, int kColumns>
__global__ void __launch_bounds__(Tile<kRows, kColumns>::kThreads, 1)
    one_wave_kernel(const __grid_constant__ CUtensorMap x, const __grid_constant__ CUtensorMap weight, const Work c) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using Tile = Tile<kRows, kColumns>;
  extern __shared__ __align__(1024) unsigned char memory[];
  __shared__ __align__(8) std::uint64_t barriers[2 * Tile::kStages];
  __shared__ float bias[kColumns];
  constexpr bool kScaled = sizeof(T) == 1;
  __shared__ float scales[kScaled ? kColumns : 1], row_scales[kScaled ? kRows : 1];
  const std::uint32_t ring = (shared_address(memory) + 1023) / 1024 * 1024;
  const std::uint32_t full = shared_address(barriers), empty = full + Tile::kStages * 8;
  const int parts = static_cast<int>(gridDim.z), part = static_cast<int>(blockIdx.z);
  if (threadIdx.x == 0) {
    for (int i = 0; i < Tile::kStages; ++i) {
      barrier_init(full + i * 8, 1);
      barrier_init(empty + i * 8, Tile::kGroups);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  let_next_begin();
  fetch_ahead(c.ahead);
  const int first = c.steps * part / parts, steps = c.steps * (part + 1) / parts - first;
  const int row0 = static_cast<int>(blockIdx.x) * kRows, column0 = static_cast<int>(blockIdx.y) * kColumns;

  if (threadIdx.x >= Tile::kGroups * 128) {
    if (threadIdx.x % 32 == 0) {
      const auto bring_w = [&](int i, std::uint32_t at) {
        fetch(weight, ring + at * Tile::kStage + Tile::kX, full + at * 8, (first + i) * kDepth<T>, column0);
      };
      const auto bring_x = [&](int i, std::uint32_t at) {
        fetch(x, ring + at * Tile::kStage, full + at * 8, (first + i) * kDepth<T>, row0);
      };
      const int early = min(steps, Tile::kStages);
      for (int i = 0; i < early; ++i) {
        barrier_expect(full + i * 8, Tile::kStage);
        bring_w(i, static_cast<std::uint32_t>(i));
      }
      wait_for_previous();
      for (int i = 0; i < early; ++i) bring_x(i, static_cast<std::uint32_t>(i));
      std::uint32_t at = 0, phase = 0;
      for (int i = early; i < steps; ++i) {
        barrier_wait(empty + at * 8, phase);
        barrier_expect(full + at * 8, Tile::kStage);
        bring_w(i, at);
        bring_x(i, at);
        if (++at == Tile::kStages) at = 0, phase ^= 1;
      }
    }
    __syncwarp();
    if (parts > 1) {
      cluster_sync();
      cluster_meet();
    }
    return;
  }

  // The same in all lanes, which the compiler cannot know.
  const int group = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 128, 0);
  const int warp = static_cast<int>(threadIdx.x) % 128 / 32, lane = static_cast<int>(threadIdx.x) % 32;
  for (int i = static_cast<int>(threadIdx.x); i < kColumns; i += Tile::kGroups * 128) {
    bias[i] = c.bias != nullptr && column0 + i < c.outputs ? c.bias[column0 + i] : 0;
    if constexpr (kScaled) scales[i] = column0 + i < c.outputs ? c.column_scales[column0 + i] : 0;
  }
  // Written by the kernel in front, as x is, whose first tile is waited for as long: at the end they would be waited
  // for alone.
  float row_scale = 1;
  if constexpr (kScaled) {
    wait_for_previous();
    const int r = row0 + static_cast<int>(threadIdx.x);
    if (threadIdx.x < kRows && r < c.rows && c.row_scales != nullptr) row_scale = c.row_scales[r];
  }
  float d[kColumns / 2];
  const bool signals = threadIdx.x % 128 == 0;
  // The inputs of the next product are 32 bytes on, in units of 16.
  const std::uint64_t a0 = descriptor(ring + static_cast<std::uint32_t>(group) * 64 * 128, 16, 8 * 128, 1);
  const std::uint64_t b0 = descriptor(ring + Tile::kX, 16, 8 * 128, 1);
  std::uint32_t at = 0, before = 0, phase = 0;
  for (int i = 0; i < steps; ++i) {
    barrier_wait(full + at * 8, phase);
    const std::uint64_t a = a0 + at * (Tile::kStage / 16), b = b0 + at * (Tile::kStage / 16);
    hold(d);
    products_begin();
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      product<typename SharedProduct<T, kColumns>::Op>(a + 2 * k, b + 2 * k, d,
                                                       i == 0 && k == 0 ? ScaleOut::Zero : ScaleOut::One);
    }
    products_commit();
    products_wait<1>();  // the step before
    hold(d);
    if (i > 0 && signals) barrier_arrive(empty + before * 8);
    before = at;
    if (++at == Tile::kStages) at = 0, phase ^= 1;
  }
  products_wait<0>();
  hold(d);
  if constexpr (kScaled) {
    if (threadIdx.x < kRows) row_scales[threadIdx.x] = row_scale;
  }
  // Nobody brings a tile any more, but another warpgroup may still read one.
  asm volatile("bar.sync 1, %0;" ::"n"(Tile::kGroups * 128) : "memory");
  const int row = group * 64 + warp * 16 + lane / 4;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const std::uint32_t to = ring + static_cast<std::uint32_t>(((row + 8 * half) * Tile::kPitch + lane % 4 * 2) * 4);
#pragma unroll
    for (int j = 0; j < kColumns / 8; ++j) {
      asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(to + 32 * j), "f"(d[4 * j + 2 * half]),
                   "f"(d[4 * j + 2 * half + 1])
                   : "memory");
    }
  }
  __syncwarp();
  if (parts > 1) cluster_sync();
  if constexpr (!kScaled) wait_for_previous();  // the residual
  const auto finish_as = [&](auto out) {
    using Out = decltype(out);
    constexpr int kAll = kRows * kColumns / 8;  // units
    if (parts == 1) {
      const int begin = (group * 64 + warp * 16) * (kColumns / 8);  // a warp's own rows
      const auto here = [](std::uint32_t address, int) { return address; };
      finish<Out, Tile, kScaled>(c, row0, column0, bias, scales, row_scales, ring, 1, here, begin + lane,
                                 begin + 2 * kColumns, 32);
    } else {
      finish<Out, Tile, kScaled>(c, row0, column0, bias, scales, row_scales, ring, parts, in_block,
                                 kAll * part / parts + static_cast<int>(threadIdx.x), kAll * (part + 1) / parts,
                                 Tile::kGroups * 128);
    }
  };
  if constexpr (kScaled) {
    c.type == DType::f16 ? finish_as(__half{}) : finish_as(T{});
  } else {
    c.type == DType::f32 ? finish_as(float{}) : finish_as(T{});
  }
  __syncwarp();
  if (parts > 1) cluster_meet();  // others may still read this block's sums
#endif
}

template <class T, int kRows, int kColumns>
cudaError_t run(const OneWaveCall& c, const OneWavePlan& plan, Queue queue) {
  using Tile = Tile<kRows, kColumns>;
  CUtensorMap x, weight;
  if (!describe_tiles(c.x, c.in, c.rows, c.inputs, c.ldx, kRows, x) ||
      !describe_tiles(c.weight, c.in, c.outputs, c.inputs, c.ldw, kColumns, weight)) {
    return cudaErrorNotSupported;
  }
  Work w;
  w.bias = c.bias, w.residual = c.residual, w.out = c.out, w.ldr = c.ldr, w.ldo = c.ldo;
  w.rows = static_cast<std::int32_t>(c.rows), w.outputs = static_cast<std::int32_t>(c.outputs);
  w.steps = static_cast<std::int32_t>((c.inputs + kDepth<T> - 1) / kDepth<T>);
  w.alpha = c.alpha, w.fn = c.fn, w.type = c.type, w.ahead = c.ahead;
  w.row_scales = c.row_scales, w.column_scales = c.column_scales, w.inverse = 1 / c.step;
  const auto parts = static_cast<unsigned>(plan.parts);
  const dim3 grid(blocks_for(c.rows, kRows), blocks_for(c.outputs, kColumns), parts), cluster(1, 1, parts);
  return launch_kernel(one_wave_kernel<T, kRows, kColumns>, grid, Tile::kThreads, Tile::kMemory, queue, cluster, x,
                       weight, w);
}

template <class T>
cudaError_t run(const OneWaveCall& c, const OneWavePlan& plan, Queue queue) {
  switch (plan.rows * 1000 + plan.columns) {
    case 64064: return run<T, 64, 64>(c, plan, queue);
    case 64096: return run<T, 64, 96>(c, plan, queue);
    case 64128: return run<T, 64, 128>(c, plan, queue);
    case 64160: return run<T, 64, 160>(c, plan, queue);
    case 128064: return run<T, 128, 64>(c, plan, queue);
    case 128096: return run<T, 128, 96>(c, plan, queue);
    case 128128: return run<T, 128, 128>(c, plan, queue);
    case 128160: return run<T, 128, 160>(c, plan, queue);
    default: return cudaErrorInvalidConfiguration;
  }
}

/// Clock cycles that a plan should take on an H200, launch left out; fitted to 1,900 measurements of 30 shapes.
double cost(const OneWavePlan& p, std::int64_t blocks, std::int64_t steps) {
  const double area = static_cast<double>(p.rows) * p.columns;
  // A step takes what the tensor cores take, or the caches to deliver it to all blocks, or its own latency.
  const double delivered = static_cast<double>(blocks) * (p.rows + p.columns) * 128 / 6400;
  const double step = std::max({area / 32, delivered, 280.0});
  const double joined = p.parts > 1 ? 1000.0 * p.parts - 540 + 0.27 * area : 0;
  return static_cast<double>((steps + p.parts - 1) / p.parts) * step + 0.23 * area / p.parts + joined + 5 * p.columns;
}

/// Calls f(plan, blocks) for every plan of a product.
template <class F>
void for_each_plan(std::int64_t rows, std::int64_t outputs, std::int64_t steps, int processors, F f) {
  for (const int tile_rows : {64, 128}) {
    for (const int tile_columns : {64, 96, 128, 160}) {
      const std::int64_t tiles = (rows + tile_rows - 1) / tile_rows * ((outputs + tile_columns - 1) / tile_columns);
      for (const int parts : {1, 2, 3, 4, 6, kMostParts}) {
        if (parts > steps || tiles * parts > processors) break;
        f(OneWavePlan{tile_rows, tile_columns, parts}, tiles * parts);
      }
    }
  }
}

std::int64_t steps_of(std::int64_t inputs, DType in) {
  return (inputs + depth_of(in) - 1) / depth_of(in);
}

}  // namespace

std::optional<OneWavePlan> plan_one_wave(std::int64_t rows, std::int64_t outputs, std::int64_t inputs, int processors,
                                         DType in) {
  const std::int64_t steps = steps_of(inputs, in);
  std::optional<OneWavePlan> best;
  double least = 0;
  for_each_plan(rows, outputs, steps, processors, [&](const OneWavePlan& plan, std::int64_t blocks) {
    const double cycles = cost(plan, blocks, steps);
    if (!best || cycles < least) best = plan, least = cycles;
  });
  return best;
}

std::vector<OneWavePlan> one_wave_plans(std::int64_t rows, std::int64_t outputs, std::int64_t inputs, int processors,
                                        DType in) {
  std::vector<OneWavePlan> out;
  for_each_plan(rows, outputs, steps_of(inputs, in), processors,
                [&](const OneWavePlan& plan, std::int64_t) { out.push_back(plan); });
  return out;
}

bool one_wave_fits(const OneWavePlan& wanted, std::int64_t rows, std::int64_t outputs, std::int64_t inputs,
                   int processors, DType in) {
  bool found = false;
  for_each_plan(rows, outputs, steps_of(inputs, in), processors, [&](const OneWavePlan& p, std::int64_t) {
    found = found || (p.rows == wanted.rows && p.columns == wanted.columns && p.parts == wanted.parts);
  });
  return found;
}

cudaError_t one_wave_product(const OneWaveCall& c, const OneWavePlan& plan, Queue queue) {
  if (c.rows == 0 || c.outputs == 0) return cudaSuccess;
  if (c.in == DType::f16) return run<__half>(c, plan, queue);
  if (c.in == DType::bf16) return run<__nv_bfloat16>(c, plan, queue);
  if (c.in == DType::f8e4m3) return run<__nv_fp8_e4m3>(c, plan, queue);
  return cudaErrorInvalidValue;
}

}  // namespace tandem::backend::cuda
