// Attention in sixteen-bit types on Hopper's warpgroup products (wgmma), for batches of equally long sequences that see
// all of each other: an image tower's.
//
// A block stays on its multiprocessor and takes one head of one sequence after the other. One warp brings keys and
// values with the tensor memory accelerator into a ring of slots, a tile of keys or of values each; a head's tiles stay
// there until all of its queries have passed, while the next head's come into the slots that are free. Three warpgroups
// (two for heads of 80 elements) take 64 queries each in turn: while one computes a softmax, the others' products keep
// the tensor cores busy, and within a warpgroup the scores of the next tile are under way during the softmax of this
// one. That schedule is FlashAttention-3's (Shah et al. 2024); that keys are read once for all queries of a head is
// possible because image towers are short. A warpgroup brings its next queries itself, as soon as it has multiplied the
// last ones.
//
// The last tile of keys has its own, smaller width: 577 keys are 4 x 128 + 65, computed as 80.
#include <algorithm>
#include <cmath>

#include "backend/cuda/attention_wgmma.cuh"
#include "backend/cuda/kernels.h"

namespace tandem::backend::cuda {
namespace {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// One warpgroup's pass of 64 queries over all keys of a head.
template <class T, int kDim, int kTail>
struct Pass {
  static constexpr int kSteps = kDim / 16;
  static constexpr float kSlack = 8;  // sixteen-bit types hold weights up to 2^8 as well as those up to 1
  using Place = cuda::Place<kDim>;

  Operands<kDim> operands;
  std::uint32_t full, empty, arrival;  // barriers, by their addresses in shared memory; arrival: of queries
  float scale;
  float out[kDim / 2];
  float base[2], sum[2];  // of the exponentials: scaled
  bool idle;              // this warp's queries are beyond the sequence
  bool signals;           // the one thread of the warpgroup that says when a slot was read, and brings queries
  std::uint32_t queries_phase = 0;

  __device__ __forceinline__ void wait_full(Place at) const { barrier_wait(full + at.slot * 8, at.phase); }
  __device__ __forceinline__ void release(Place at, bool last) const {
    if (last && signals) barrier_arrive(empty + at.slot * 8);
  }

  /// s = q k^T for a tile.
  template <int kKeys>
  __device__ __forceinline__ void scores(Place at, float (&s)[kKeys / 2]) const {
    wait_full(at);
    const std::uint32_t queries = uniform(operands.queries);
    const std::uint32_t keys = uniform(operands.keys + at.slot * (Slots<kDim>::kBytes / 16));
    hold(s);
    products_begin();
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      product<typename SharedProduct<T, kKeys>::Op>(
          descriptor_of(queries + k * Operands<kDim>::kNextQueries, Operands<kDim>::kHigh),
          descriptor_of(keys + k * Operands<kDim>::kNextKeys, Operands<kDim>::kHigh), s,
          k == 0 ? ScaleOut::Zero : ScaleOut::One);
    }
    products_commit();
  }

  /// p = 2^(scale (s - base)). The base need not be the largest score, only near it: as long as no score of the warp's
  /// rows is more than 2^kSlack times what the base stands for, it stays. Otherwise it becomes the largest, and
  /// `shrink` brings the sums so far to it: true.
  template <int kKeys>
  __device__ __forceinline__ bool softmax(float (&s)[kKeys / 2], float (&shrink)[2], int valid) {
    if (idle) return false;  // scores of zeros are zeros
    const int lane = static_cast<int>(threadIdx.x) % 32;
    if (valid < kKeys) {
#pragma unroll
      for (int i = 0; i < kKeys / 2; ++i) {
        if (i / 4 * 8 + lane % 4 * 2 + i % 2 >= valid) s[i] = -INFINITY;
      }
    }
    // Two chains a row: an instruction's result is four cycles away.
    float most[2][2] = {{-INFINITY, -INFINITY}, {-INFINITY, -INFINITY}};
#pragma unroll
    for (int i = 0; i < kKeys / 8; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        most[half][i % 2] = fmaxf(most[half][i % 2], fmaxf(s[4 * i + 2 * half], s[4 * i + 2 * half + 1]));
      }
    }
    float found[2] = {fmaxf(most[0][0], most[0][1]), fmaxf(most[1][0], most[1][1])};
#pragma unroll
    for (int d = 2; d > 0; d /= 2) {
      const float other[2] = {__shfl_xor_sync(0xffffffffu, found[0], d), __shfl_xor_sync(0xffffffffu, found[1], d)};
      found[0] = fmaxf(found[0], other[0]), found[1] = fmaxf(found[1], other[1]);
    }
    const bool grows = found[0] * scale > base[0] + kSlack || found[1] * scale > base[1] + kSlack;
    const bool rescales = __any_sync(0xffffffffu, grows) != 0;
    if (rescales) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float next = fmaxf(base[half], found[half] * scale);
        shrink[half] = next == -INFINITY ? 1 : exp2_fast(base[half] - next);
        base[half] = next, sum[half] *= shrink[half];
      }
    }
    const float less[2] = {base[0] == -INFINITY ? 0 : base[0], base[1] == -INFINITY ? 0 : base[1]};
    float part[2][2] = {};
#pragma unroll
    for (int i = 0; i < kKeys / 8; ++i) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        s[4 * i + e] = exp2_fast(fmaf(s[4 * i + e], scale, -less[e / 2]));
        part[e / 2][e % 2] += s[4 * i + e];
      }
    }
    sum[0] += part[0][0] + part[0][1], sum[1] += part[1][0] + part[1][1];
    return rescales;
  }

  template <int kKeys>
  __device__ __forceinline__ void pack(const float (&s)[kKeys / 2], std::uint32_t (&p)[kKeys / 16][4]) const {
#pragma unroll
    for (int k = 0; k < kKeys / 16; ++k) {
#pragma unroll
      for (int i = 0; i < 4; ++i) p[k][i] = pack2<T>(s[8 * k + 2 * i], s[8 * k + 2 * i + 1]);
    }
  }

  template <int kKeys>
  __device__ __forceinline__ void add_values(const std::uint32_t (&p)[kKeys / 16][4], Place at) {
    wait_full(at);
    const std::uint32_t values = uniform(operands.values + at.slot * (Slots<kDim>::kBytes / 16));
    hold(out);
    products_begin();
#pragma unroll
    for (int k = 0; k < kKeys / 16; ++k) {
      product<typename Product<T, kDim, Major::MN>::Op>(
          p[k], descriptor_of(values + k * Operands<kDim>::kNextValues, Operands<kDim>::kHigh), out, ScaleOut::One);
    }
    products_commit();
  }

  __device__ __forceinline__ void rescale(bool wanted, const float (&shrink)[2]) {
    if (!wanted) return;
#pragma unroll
    for (int i = 0; i < kDim / 2; ++i) out[i] *= shrink[i / 2 % 2];
  }

  /// `keys`: the place of the head's first tile of keys; its values follow it, then the next tile. `last`: no more of
  /// this warpgroup's queries want this head. `reload` is called when the queries are not needed any more, with time
  /// before the next ones are.
  template <class Reload>
  __device__ __forceinline__ void run(Place keys, int tiles, int length, bool last, const Reload& reload) {
    barrier_wait(arrival, queries_phase);
    queries_phase ^= 1;
#pragma unroll
    for (int i = 0; i < kDim / 2; ++i) out[i] = 0;
    base[0] = base[1] = -INFINITY, sum[0] = sum[1] = 0;
    float shrink[2];  // of sums that are zero nothing is shrunk
    Place values = keys.next();
    if (tiles == 1) {
      float s[kTail / 2];
      std::uint32_t p[kTail / 16][4];
      scores<kTail>(keys, s);
      products_wait<0>();
      hold(s);
      reload();
      release(keys, last);
      softmax<kTail>(s, shrink, length);
      pack<kTail>(s, p);
      add_values<kTail>(p, values);
      products_wait<0>();
      hold(out);
      release(values, last);
      return;
    }
    std::uint32_t p[kTile / 16][4];
    float s[kTile / 2];  // outside of the loop: the compiler would make zeros for every tile
    scores<kTile>(keys, s);
    products_wait<0>();
    hold(s);
    release(keys, last);
    softmax<kTile>(s, shrink, kTile);
    pack<kTile>(s, p);
    for (int t = 1; t + 1 < tiles; ++t) {
      keys = values.next();
      scores<kTile>(keys, s);
      add_values<kTile>(p, values);
      products_wait<1>();
      hold(s);
      release(keys, last);
      const bool rescales = softmax<kTile>(s, shrink, kTile);
      products_wait<0>();
      hold(out);
      release(values, last);
      rescale(rescales, shrink);
      pack<kTile>(s, p);
      values = keys.next();
    }
    float t[kTail / 2];
    std::uint32_t rest[kTail / 16][4];
    keys = values.next();
    scores<kTail>(keys, t);
    add_values<kTile>(p, values);
    products_wait<1>();
    hold(t);
    reload();
    release(keys, last);
    const bool rescales = softmax<kTail>(t, shrink, length - (tiles - 1) * kTile);
    products_wait<0>();
    hold(out);
    release(values, last);
    rescale(rescales, shrink);
    pack<kTail>(t, rest);
    values = keys.next();
    add_values<kTail>(rest, values);
    products_wait<0>();
    hold(out);
    release(values, last);
  }

  /// A row's elements times `factor` in E4M3; `to`: where its head's of T would begin, `column` of them behind the row.
  __device__ __forceinline__ void store_eight_bits(T* to, bool there, int half, float factor,
                                                   std::int64_t column) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    std::uint8_t* bytes = reinterpret_cast<std::uint8_t*>(to - column) + column;
    const auto pair = [&](int i) {
      return static_cast<std::uint32_t>(pack_e4m3(out[4 * i + 2 * half] * factor, out[4 * i + 2 * half + 1] * factor));
    };
    // As in store(), eight eights at a time: the whole t-th of the first four, and of the others.
#pragma unroll
    for (int i = 0; i + 8 <= kDim / 8; i += 8) {
      std::uint32_t w[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) w[k] = pair(i + k) | pair(i + 4 + k) << 16;
      transpose_quad(w);
      const uint2 low = make_uint2(__byte_perm(w[0], w[1], 0x5410), __byte_perm(w[2], w[3], 0x5410));
      const uint2 high = make_uint2(__byte_perm(w[0], w[1], 0x7632), __byte_perm(w[2], w[3], 0x7632));
      if (!there) continue;
      *reinterpret_cast<uint2*>(bytes + 8 * (i + lane % 4)) = low;
      *reinterpret_cast<uint2*>(bytes + 8 * (i + 4 + lane % 4)) = high;
    }
#pragma unroll
    for (int i = kDim / 8 / 8 * 8; i < kDim / 8; ++i) {
      if (there) *reinterpret_cast<std::uint16_t*>(bytes + 8 * i + lane % 4 * 2) = static_cast<std::uint16_t>(pair(i));
    }
  }

  /// The weighted values divided by their weights' sum.
  __device__ __forceinline__ void store(const WgmmaCall& c, int sequence, int head, int tile, int warp) const {
    const int lane = static_cast<int>(threadIdx.x) % 32, row = tile * kQueries + warp * 16 + lane / 4;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float inverse = 1 / warp_sum<4>(sum[half]);
      const bool there = row + 8 * half < c.length;
      T* to = static_cast<T*>(c.out) + (static_cast<std::int64_t>(sequence) * c.length + row + 8 * half) * c.ldo +
              static_cast<std::int64_t>(head) * kDim;
      const auto pair = [&](int i) {
        return pack2<T>(out[4 * i + 2 * half] * inverse, out[4 * i + 2 * half + 1] * inverse);
      };
      if (c.inverse != 0) {
        store_eight_bits(to, there, half, inverse * c.inverse, static_cast<std::int64_t>(head) * kDim);
        continue;
      }
      // Lane t has elements 2 t and 2 t + 1 of every eight: four eights at a time it gets the whole t-th.
#pragma unroll
      for (int i = 0; i + 4 <= kDim / 8; i += 4) {
        std::uint32_t w[4] = {pair(i), pair(i + 1), pair(i + 2), pair(i + 3)};
        transpose_quad(w);
        if (there) *reinterpret_cast<uint4*>(to + 8 * (i + lane % 4)) = make_uint4(w[0], w[1], w[2], w[3]);
      }
#pragma unroll
      for (int i = kDim / 8 / 4 * 4; i < kDim / 8; ++i) {
        if (there) *reinterpret_cast<std::uint32_t*>(to + 8 * i + lane % 4 * 2) = pair(i);
      }
    }
  }
};

#endif

/// kTail: keys of the last tile, rounded up to what a product takes.
template <class T, int kDim, int kTail>
__global__ void __launch_bounds__(kThreads<kDim>, 1)
    attention_wgmma_kernel(const __grid_constant__ CUtensorMap queries, const __grid_constant__ CUtensorMap keys,
                           const __grid_constant__ CUtensorMap values, const WgmmaCall c) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) unsigned char memory[];
  constexpr int kCount = Slots<kDim>::kCount, kGroups = kConsumers<kDim>;
  const std::uint32_t slots = (shared_address(memory) + 1023) / 1024 * 1024;
  const std::uint32_t first_queries = slots + kCount * Slots<kDim>::kBytes;
  const std::uint32_t full = first_queries + kGroups * Slots<kDim>::kQueryBytes, empty = full + kCount * 8;
  const std::uint32_t arrivals = empty + kCount * 8;
  // The same in all lanes, which the compiler cannot know.
  const int group = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 128, 0);
  if (threadIdx.x == 0) {
    for (int i = 0; i < kCount; ++i) {
      barrier_init(full + i * 8, 1);
      barrier_init(empty + i * 8, kGroups);
    }
    for (int i = 0; i < kGroups; ++i) barrier_init(arrivals + i * 8, 1);
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  fetch_ahead(c.ahead);
  __syncthreads();
  wait_for_previous();
  let_next_begin();
  const int items = c.items, tiles = c.key_tiles;

  if (group == kGroups) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
    if (threadIdx.x != kGroups * 128) return;
    Place<kDim> at;
    for (int item = static_cast<int>(blockIdx.x); item < items; item += static_cast<int>(gridDim.x)) {
      const int head = item / c.parts % c.heads, sequence = item / c.parts / c.heads;
      for (int t = 0; t < tiles; ++t) {
        for (int which = 0; which < 2; ++which) {
          // The first round finds every slot free: a barrier's phase before its first counts as over.
          barrier_wait(empty + at.slot * 8, at.phase ^ 1);
          barrier_expect(full + at.slot * 8, Slots<kDim>::kBytes);
          fetch<kDim>(which == 0 ? keys : values, slots + at.slot * Slots<kDim>::kBytes, full + at.slot * 8, head,
                      t * kTile, sequence);
          at = at.next();
        }
      }
    }
    return;
  }

  if constexpr (kGroups == 3) {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 160;");
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
  }
  const int warp = static_cast<int>(threadIdx.x) % 128 / 32;
  const std::uint32_t own = first_queries + static_cast<std::uint32_t>(group) * Slots<kDim>::kQueryBytes;
  Pass<T, kDim, kTail> pass{Operands<kDim>(slots, own), full, empty, arrivals + static_cast<std::uint32_t>(group) * 8,
                            c.scale};
  pass.signals = threadIdx.x % 128 == 0;
  Place<kDim> at;
  Turns<kGroups> turns(c, group);
  turns.seek();
  const auto bring_queries = [&] {
    if (!pass.signals || turns.over()) return;
    barrier_expect(pass.arrival, Slots<kDim>::kQueryBytes);
    fetch<kDim>(queries, own, pass.arrival, turns.head, turns.tile * kQueries, turns.sequence);
  };
  bring_queries();
  for (int item = static_cast<int>(blockIdx.x); item < items; item += static_cast<int>(gridDim.x)) {
    const Place<kDim> first_keys = at;
    const bool mine = turns.item == item;
    for (int i = 0; i < 2 * tiles; ++i) {
      if (!mine) {
        pass.wait_full(at);  // an empty slot is not released twice
        // A warp that has not looked yet could find the slot filled once more.
        asm volatile("bar.sync %0, 128;" ::"r"(1 + group) : "memory");
        pass.release(at, true);
      }
      at = at.next();
    }
    while (turns.item == item) {
      const int sequence = turns.sequence, head = turns.head, tile = turns.tile;
      turns.step();
      pass.idle = tile * kQueries + warp * 16 >= c.length;
      pass.run(first_keys, tiles, c.length, turns.item != item, bring_queries);
      pass.store(c, sequence, head, tile, warp);
    }
  }
#endif
}

/// [sequences, length, heads * kDim] in boxes of `box_rows` rows of one head.
template <class T, int kDim>
bool describe(ConstView m, std::int64_t sequences, std::int64_t length, cuuint32_t box_rows, CUtensorMap& map) {
  const auto encode = encode_tensor_map();
  if (encode == nullptr) return false;
  constexpr auto kType = std::is_same_v<T, __half> ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  const auto columns = static_cast<cuuint64_t>(m.columns()), row = static_cast<cuuint64_t>(m.stride) * 2;
  const auto rows = static_cast<cuuint64_t>(length), all = static_cast<cuuint64_t>(sequences);
  void* data = const_cast<std::byte*>(m.data);
  constexpr cuuint32_t kOnes[4] = {1, 1, 1, 1};
  CUresult result;
  if constexpr (Slots<kDim>::kWhole) {
    const cuuint64_t sizes[3] = {columns, rows, all}, strides[2] = {row, rows * row};
    const cuuint32_t box[3] = {kDim, box_rows, 1};
    result = encode(&map, kType, 3, data, sizes, strides, box, kOnes, CU_TENSOR_MAP_INTERLEAVE_NONE,
                    CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  } else {
    const cuuint64_t sizes[4] = {16, rows, columns / 16, all}, strides[3] = {row, 32, rows * row};
    const cuuint32_t box[4] = {16, box_rows, kDim / 16, 1};
    result = encode(&map, kType, 4, data, sizes, strides, box, kOnes, CU_TENSOR_MAP_INTERLEAVE_NONE,
                    CU_TENSOR_MAP_SWIZZLE_32B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  }
  return result == CUDA_SUCCESS;
}

template <class T, int kDim, int kTail>
cudaError_t launch(const AttentionArgs& a, const AttentionDevice& device, Queue queue) {
  CUtensorMap queries, keys, values;
  const int processors = device.processors;
  const std::int64_t length = a.keys.longest, sequences = a.keys.count;
  if (!describe<T, kDim>(a.q, sequences, length, kQueries, queries) ||
      !describe<T, kDim>(a.k, sequences, length, kTile, keys) ||
      !describe<T, kDim>(a.v, sequences, length, kTile, values)) {
    return cudaErrorNotSupported;
  }
  WgmmaCall c;
  c.out = a.out.data, c.ldo = a.out.stride;
  c.length = static_cast<std::int32_t>(length), c.heads = a.heads;
  c.query_tiles = (c.length + kQueries - 1) / kQueries, c.key_tiles = (c.length + kTile - 1) / kTile;
  c.scale = exponent_scale(a.head_dim), c.ahead = device.ahead;
  c.inverse = device.step > 0 ? 1 / device.step : 0;
  // Few heads are divided among blocks, two tiles of queries each at least, since every block brings all keys; and a
  // head that is longer than the ring stays only while every warpgroup has no more than one tile of queries.
  const std::int64_t heads = sequences * a.heads, rounds = (c.query_tiles + kConsumers<kDim> - 1) / kConsumers<kDim>;
  const std::int64_t parts = std::clamp<std::int64_t>(processors / heads, 1, (c.query_tiles + 1) / 2);
  const bool fits = 2 * c.key_tiles <= Slots<kDim>::kCount;
  c.parts = static_cast<std::int32_t>(fits ? parts : std::max(parts, rounds));
  c.items = static_cast<std::int32_t>(heads * c.parts);
  const auto kernel = attention_wgmma_kernel<T, kDim, kTail>;
  return launch_kernel(kernel, dim3(static_cast<unsigned>(std::min(processors, c.items))), kThreads<kDim>, kMemory,
                       queue, dim3(1), queries, keys, values, c);
}

template <class T, int kDim>
cudaError_t launch_for_tail(const AttentionArgs& a, const AttentionDevice& device, Queue queue) {
  const std::int64_t tail = (a.keys.longest - 1) % kTile + 1;
  if (tail <= 16) return launch<T, kDim, 16>(a, device, queue);
  if (tail <= 80) return launch<T, kDim, 80>(a, device, queue);
  return launch<T, kDim, kTile>(a, device, queue);
}

template <class T>
cudaError_t launch_for_head(const AttentionArgs& a, const AttentionDevice& device, Queue queue) {
  if (a.head_dim == 64) return launch_for_tail<T, 64>(a, device, queue);
  return launch_for_tail<T, 80>(a, device, queue);
}

}  // namespace

bool wgmma_fits(const AttentionArgs& a) {
  const bool uniform = a.queries.offsets == nullptr && a.keys.offsets == nullptr && !a.causal && !a.prefix_k &&
                       a.queries.count == a.keys.count && a.queries.longest == a.keys.longest;
  // Shorter sequences leave most of a tile empty.
  return uniform && a.keys.longest > kQueries && (a.head_dim == 64 || a.head_dim == 80) &&
         a.keys.count * a.heads * a.queries.longest < std::int64_t{1} << 31;
}

cudaError_t attention_wgmma(const AttentionArgs& a, const AttentionDevice& device, Queue queue) {
  if (a.q.dtype == DType::f16) return launch_for_head<__half>(a, device, queue);
  if (a.q.dtype == DType::bf16) return launch_for_head<__nv_bfloat16>(a, device, queue);
  return cudaErrorInvalidValue;
}

}  // namespace tandem::backend::cuda
