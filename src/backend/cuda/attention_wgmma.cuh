// The parts of attention on warpgroup products (attention_wgmma.cu): the ring of tiles, and whose turn it is.
#pragma once

#include "backend/cuda/attention.cuh"
#include "backend/cuda/tensor_map.h"
#include "backend/cuda/wgmma.cuh"

namespace tandem::backend::cuda {
namespace {

constexpr int kTile = 128;    // keys in a tile
constexpr int kQueries = 64;  // queries that a warpgroup takes at a time
/// Warpgroups that compute: as many as there are registers for.
template <int kDim>
constexpr int kConsumers = kDim <= 64 ? 3 : 2;
template <int kDim>
constexpr int kThreads = 128 * (kConsumers<kDim> + 1);
constexpr int kMemory = 227 * 1024;

/// How a head's columns lie in a slot: whole, in rows of 128 bytes, or in groups of 16 columns, rows of 32 bytes.
template <int kDim>
struct Slots {
  static constexpr bool kWhole = kDim == 64;
  static constexpr int kBytes = kTile * kDim * 2, kQueryBytes = kQueries * kDim * 2;
  static constexpr int kCount = (kMemory - 2048 - kConsumers<kDim> * kQueryBytes) / kBytes;
};

struct WgmmaCall {
  void* out;
  std::int64_t ldo;
  std::int32_t length, heads, parts, query_tiles, key_tiles, items;
  float scale;    // log2(e) / sqrt(head_dim)
  float inverse;  // of one step of E4M3 outputs; 0: they are T
  Ahead ahead;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// Rows of a head as the map's boxes have them, from row `row` of a sequence on; zeros beyond the sequence.
template <int kDim>
__device__ __forceinline__ void fetch(const CUtensorMap& map, std::uint32_t to, std::uint32_t barrier, int head,
                                      int row, int sequence) {
  if constexpr (Slots<kDim>::kWhole) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::
            "r"(to),
        "l"(&map), "r"(barrier), "r"(head * kDim), "r"(row), "r"(sequence)
        : "memory");
  } else {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], "
        "[%2];" ::"r"(to),
        "l"(&map), "r"(barrier), "r"(0), "r"(row), "r"(head * (kDim / 16)), "r"(sequence)
        : "memory");
  }
}

/// The tiles in slot 0 and a warpgroup's queries as the products read them, and how far on the next 16 head elements of
/// queries and keys and the next 16 values are, in units of 16 bytes.
template <int kDim>
struct Operands {
  static constexpr bool kWhole = Slots<kDim>::kWhole;
  static constexpr int kNextKeys = (kWhole ? 32 : kTile * 32) / 16, kNextValues = (kWhole ? 16 * 128 : 16 * 32) / 16;
  static constexpr int kNextQueries = (kWhole ? 32 : kQueries * 32) / 16;
  static constexpr std::uint32_t kHigh = kWhole ? descriptor_high(8 * 128, 1) : descriptor_high(8 * 32, 3);
  __device__ Operands(std::uint32_t slots, std::uint32_t own_queries)
      : keys(descriptor_low(slots, 16)),
        values(descriptor_low(slots, kWhole ? 8 * 128 : kTile * 32)),
        queries(descriptor_low(own_queries, 16)) {}
  std::uint32_t keys, values, queries;  // the low halves
};

/// A place in the ring.
template <int kDim>
struct Place {
  std::uint32_t slot = 0, phase = 0;
  __device__ __forceinline__ Place next() const {
    return slot + 1 == Slots<kDim>::kCount ? Place{0, phase ^ 1} : Place{slot + 1, phase};
  }
};

/// A warpgroup's tiles of queries, one after the other: those of this block's items go round the `kGroups` warpgroups,
/// from one item to the next.
template <int kGroups>
struct Turns {
  __device__ Turns(const WgmmaCall& call, int group) : c(call), item(static_cast<int>(blockIdx.x)), turn(group) {}
  /// To the first tile of this warpgroup from the item on.
  __device__ __forceinline__ void seek() {
    for (; item < c.items; item += static_cast<int>(gridDim.x)) {
      const int part = item % c.parts;
      const int begin = c.query_tiles * part / c.parts;
      end = c.query_tiles * (part + 1) / c.parts;
      head = item / c.parts % c.heads, sequence = item / c.parts / c.heads;
      tile = begin + turn;
      turn = (turn + kGroups - (end - begin) % kGroups) % kGroups;
      if (tile < end) return;
    }
  }
  __device__ __forceinline__ void step() {
    tile += kGroups;
    if (tile < end) return;
    item += static_cast<int>(gridDim.x);
    seek();
  }
  __device__ __forceinline__ bool over() const { return item >= c.items; }

  const WgmmaCall& c;
  int item, turn;
  int sequence = 0, head = 0, tile = 0, end = 0;
};

/// Word i of lane t becomes word t of lane i, among four neighbouring lanes.
__device__ __forceinline__ void transpose_quad(std::uint32_t (&w)[4]) {
  const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int d = 1; d < 4; d *= 2) {
    const bool upper = (t & d) != 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if ((i & d) != 0) continue;
      // The lower lane keeps word i and gives word i + d, the upper one the other way round.
      const std::uint32_t got = __shfl_xor_sync(0xffffffffu, upper ? w[i] : w[i + d], d);
      (upper ? w[i] : w[i + d]) = got;
    }
  }
}

#endif

}  // namespace
}  // namespace tandem::backend::cuda
