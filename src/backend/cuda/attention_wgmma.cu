// Attention in sixteen-bit types on Hopper's warpgroup products (wgmma), for batches of equally long sequences that see
// all of each other: an image tower's.
//
// A block stays on its multiprocessor and takes one head of one sequence after the other. One warp brings keys and
// values with the tensor memory accelerator into a ring of slots, a tile of keys or of values each; a head's tiles stay
// there until all of its queries have passed, while the next head's come into the slots that are free. Two warpgroups
// take 64 queries each in turn: while one computes a softmax, the other's products keep the tensor cores busy, and
// within a warpgroup the scores of the next tile are under way during the softmax of this one. That schedule is
// FlashAttention-3's (Shah et al. 2024); that keys are read once for all queries of a head is possible because image
// towers are short. Queries come straight into the registers where the products want them.
//
// The last tile of keys has its own, smaller width: 577 keys are 4 x 128 + 65, computed as 80.
#include <cuda.h>

#include <cmath>

#include "backend/cuda/attention.cuh"
#include "backend/cuda/kernels.h"
#include "backend/cuda/wgmma.cuh"

namespace tandem::backend::cuda {
namespace {

constexpr int kTile = 128;     // keys in a tile
constexpr int kQueries = 64;   // queries that a warpgroup takes at a time
constexpr int kConsumers = 2;  // warpgroups that compute
constexpr int kThreads = 128 * (kConsumers + 1);
constexpr int kMemory = 227 * 1024;

/// How a head's columns lie in a slot: whole, in rows of 128 bytes, or in groups of 16 columns, rows of 32 bytes.
template <int kDim>
struct Slots {
  static constexpr bool kWhole = kDim == 64;
  static constexpr int kBytes = kTile * kDim * 2;
  static constexpr int kCount = (kMemory - 2048) / kBytes;
};

struct WgmmaCall {
  const void* q;
  void* out;
  std::int64_t ldq, ldo;
  std::int32_t length, heads, parts, query_tiles, key_tiles, items;
  float scale;  // log2(e) / sqrt(head_dim)
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// kTile rows of a head, from row `row` of a sequence on; zeros beyond the sequence.
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

/// Keys, for head elements [16 k, 16 k + 16).
template <int kDim>
__device__ __forceinline__ std::uint64_t key_operand(std::uint32_t slot, int k) {
  if constexpr (Slots<kDim>::kWhole) return descriptor(slot + 32 * k, 16, 8 * 128, 1);
  return descriptor(slot + k * kTile * 32, 16, 8 * 32, 3);
}
/// Values of keys [16 k, 16 k + 16).
template <int kDim>
__device__ __forceinline__ std::uint64_t value_operand(std::uint32_t slot, int k) {
  if constexpr (Slots<kDim>::kWhole) return descriptor(slot + 16 * 128 * k, 8 * 128, 8 * 128, 1);
  return descriptor(slot + 16 * 32 * k, kTile * 32, 8 * 32, 3);
}

/// One warpgroup's pass of 64 queries over all keys of a head.
template <class T, int kDim, int kTail>
struct Pass {
  static constexpr int kSteps = kDim / 16;
  static constexpr int kCount = Slots<kDim>::kCount;

  std::uint32_t slots, full, empty;  // addresses in shared memory
  float scale;
  float out[kDim / 2];
  float largest[2], sum[2];
  bool idle;  // this warp's queries are beyond the sequence

  __device__ __forceinline__ std::uint32_t slot(std::uint32_t n) const {
    return slots + n % kCount * Slots<kDim>::kBytes;
  }
  __device__ __forceinline__ void wait_full(std::uint32_t n) const {
    barrier_wait(full + n % kCount * 8, n / kCount & 1);
  }
  __device__ __forceinline__ void release(std::uint32_t n, bool last) const {
    if (last && threadIdx.x % 128 == 0) barrier_arrive(empty + n % kCount * 8);
  }

  /// s = q k^T for a tile.
  template <int kKeys>
  __device__ __forceinline__ void scores(const std::uint32_t (&q)[kSteps][4], std::uint32_t n,
                                         float (&s)[kKeys / 2]) const {
    wait_full(n);
    const std::uint32_t at = slot(n);
    hold(s);
    products_begin();
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      product<typename Product<T, kKeys, Major::K>::Op>(q[k], key_operand<kDim>(at, k), s,
                                                        k == 0 ? ScaleOut::Zero : ScaleOut::One);
    }
    products_commit();
  }

  /// p = 2^(scale (s - max)), and what is needed to bring the sums so far to the new maximum.
  template <int kKeys>
  __device__ __forceinline__ void softmax(float (&s)[kKeys / 2], float (&shrink)[2], int valid) {
    shrink[0] = shrink[1] = 1;
    if (idle) return;  // scores of zeros are zeros
    const int lane = static_cast<int>(threadIdx.x) % 32;
    if (valid < kKeys) {
#pragma unroll
      for (int i = 0; i < kKeys / 2; ++i) {
        if (i / 4 * 8 + lane % 4 * 2 + i % 2 >= valid) s[i] = -INFINITY;
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float most = largest[half];
#pragma unroll
      for (int i = 0; i < kKeys / 8; ++i) most = fmaxf(most, fmaxf(s[4 * i + 2 * half], s[4 * i + 2 * half + 1]));
      most = warp_max<4>(most);
      const float base = most == -INFINITY ? 0 : most * scale;
      shrink[half] = exp2_fast(fmaf(largest[half], scale, -base));
      largest[half] = most;
      float part = 0;
#pragma unroll
      for (int i = 0; i < kKeys / 8; ++i) {
#pragma unroll
        for (int e = 2 * half; e < 2 * half + 2; ++e) {
          s[4 * i + e] = exp2_fast(fmaf(s[4 * i + e], scale, -base));
          part += s[4 * i + e];
        }
      }
      sum[half] = fmaf(sum[half], shrink[half], part);
    }
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
  __device__ __forceinline__ void add_values(const std::uint32_t (&p)[kKeys / 16][4], std::uint32_t n) {
    wait_full(n);
    const std::uint32_t at = slot(n);
    hold(out);
    products_begin();
#pragma unroll
    for (int k = 0; k < kKeys / 16; ++k) {
      product<typename Product<T, kDim, Major::MN>::Op>(p[k], value_operand<kDim>(at, k), out, ScaleOut::One);
    }
    products_commit();
  }

  __device__ __forceinline__ void rescale(const float (&shrink)[2]) {
#pragma unroll
    for (int i = 0; i < kDim / 2; ++i) out[i] *= shrink[i / 2 % 2];
  }

  /// `n`: the ring's number of the head's first tile of keys; values follow their keys. `last`: no more of this
  /// warpgroup's queries want this head.
  __device__ __forceinline__ void run(const std::uint32_t (&q)[kSteps][4], std::uint32_t n, int tiles, int length,
                                      bool last) {
#pragma unroll
    for (int i = 0; i < kDim / 2; ++i) out[i] = 0;
    largest[0] = largest[1] = -INFINITY, sum[0] = sum[1] = 0;
    float shrink[2];
    if (tiles == 1) {
      float s[kTail / 2];
      std::uint32_t p[kTail / 16][4];
      scores<kTail>(q, n, s);
      products_wait<0>();
      hold(s);
      release(n, last);
      softmax<kTail>(s, shrink, length);
      pack<kTail>(s, p);
      add_values<kTail>(p, n + 1);
      products_wait<0>();
      hold(out);
      release(n + 1, last);
      return;
    }
    std::uint32_t p[kTile / 16][4];
    {
      float s[kTile / 2];
      scores<kTile>(q, n, s);
      products_wait<0>();
      hold(s);
      release(n, last);
      softmax<kTile>(s, shrink, kTile);
      pack<kTile>(s, p);
    }
    for (int t = 1; t + 1 < tiles; ++t, n += 2) {
      float s[kTile / 2];
      scores<kTile>(q, n + 2, s);
      add_values<kTile>(p, n + 1);
      products_wait<1>();
      hold(s);
      release(n + 2, last);
      softmax<kTile>(s, shrink, kTile);
      products_wait<0>();
      hold(out);
      release(n + 1, last);
      rescale(shrink);
      pack<kTile>(s, p);
    }
    float s[kTail / 2];
    std::uint32_t rest[kTail / 16][4];
    scores<kTail>(q, n + 2, s);
    add_values<kTile>(p, n + 1);
    products_wait<1>();
    hold(s);
    release(n + 2, last);
    softmax<kTail>(s, shrink, length - (tiles - 1) * kTile);
    products_wait<0>();
    hold(out);
    release(n + 1, last);
    rescale(shrink);
    pack<kTail>(s, rest);
    add_values<kTail>(rest, n + 3);
    products_wait<0>();
    hold(out);
    release(n + 3, last);
  }
};

#endif

/// kTail: keys of the last tile, rounded up to what a product takes.
template <class T, int kDim, int kTail>
__global__ void __launch_bounds__(kThreads, 1)
    attention_wgmma_kernel(const __grid_constant__ CUtensorMap keys, const __grid_constant__ CUtensorMap values,
                           const WgmmaCall c) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) unsigned char memory[];
  constexpr int kCount = Slots<kDim>::kCount;
  const std::uint32_t slots = (shared_address(memory) + 1023) / 1024 * 1024;
  const std::uint32_t full = slots + kCount * Slots<kDim>::kBytes, empty = full + kCount * 8;
  const int group = static_cast<int>(threadIdx.x) / 128;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kCount; ++i) {
      barrier_init(full + i * 8, 1);
      barrier_init(empty + i * 8, kConsumers);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  const int items = c.items, tiles = c.key_tiles;

  if (group == kConsumers) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
    if (threadIdx.x != kConsumers * 128) return;
    std::uint32_t n = 0;
    for (int item = static_cast<int>(blockIdx.x); item < items; item += static_cast<int>(gridDim.x)) {
      const int head = item / c.parts % c.heads, sequence = item / c.parts / c.heads;
      for (int t = 0; t < tiles; ++t) {
        for (int which = 0; which < 2; ++which, ++n) {
          const std::uint32_t at = n % kCount;
          // The first round finds every slot free: a barrier's phase before its first counts as over.
          barrier_wait(empty + at * 8, (n / kCount & 1) ^ 1);
          barrier_expect(full + at * 8, Slots<kDim>::kBytes);
          fetch<kDim>(which == 0 ? keys : values, slots + at * Slots<kDim>::kBytes, full + at * 8, head, t * kTile,
                      sequence);
        }
      }
    }
    return;
  }

  asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) % 128 / 32;
  Pass<T, kDim, kTail> pass;
  pass.slots = slots, pass.full = full, pass.empty = empty, pass.scale = c.scale;
  std::uint32_t n = 0;
  int turn = group;
  for (int item = static_cast<int>(blockIdx.x); item < items;
       item += static_cast<int>(gridDim.x), n += 2 * static_cast<std::uint32_t>(tiles)) {
    const int part = item % c.parts, head = item / c.parts % c.heads, sequence = item / c.parts / c.heads;
    const int begin = c.query_tiles * part / c.parts, end = c.query_tiles * (part + 1) / c.parts;
    const std::int64_t column = static_cast<std::int64_t>(head) * kDim;
    int tile = begin + turn;
    if (tile >= end) {
      for (std::uint32_t i = 0; i < 2 * static_cast<std::uint32_t>(tiles); ++i) {
        pass.wait_full(n + i);  // an empty slot is not released twice
        pass.release(n + i, true);
      }
    }
    // Odd numbers of tiles: who had one more has one less next time.
    if ((end - begin) % 2 != 0) turn ^= 1;
    for (; tile < end; tile += kConsumers) {
      const int row = tile * kQueries + warp * 16 + lane / 4;
      const std::int64_t first = static_cast<std::int64_t>(sequence) * c.length;
      std::uint32_t q[kDim / 16][4];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const bool there = row + 8 * half < c.length;
        const T* from = static_cast<const T*>(c.q) + (first + row + 8 * half) * c.ldq + column + lane % 4 * 2;
#pragma unroll
        for (int k = 0; k < kDim / 16; ++k) {
          q[k][half] = there ? *reinterpret_cast<const std::uint32_t*>(from + 16 * k) : 0;
          q[k][half + 2] = there ? *reinterpret_cast<const std::uint32_t*>(from + 16 * k + 8) : 0;
        }
      }
      pass.idle = tile * kQueries + warp * 16 >= c.length;
      pass.run(q, n, tiles, c.length, tile + kConsumers >= end);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float inverse = 1 / warp_sum<4>(pass.sum[half]);
        if (row + 8 * half >= c.length) continue;
        T* to = static_cast<T*>(c.out) + (first + row + 8 * half) * c.ldo + column + lane % 4 * 2;
#pragma unroll
        for (int i = 0; i < kDim / 8; ++i) {
          *reinterpret_cast<std::uint32_t*>(to + 8 * i) =
              pack2<T>(pass.out[4 * i + 2 * half] * inverse, pass.out[4 * i + 2 * half + 1] * inverse);
        }
      }
    }
  }
#endif
}

/// The driver's function, found through the runtime: this library links no driver.
using Encode = decltype(&cuTensorMapEncodeTiled);
Encode find_encode() {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result{};
#if CUDART_VERSION >= 12050
  const cudaError_t code =
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result);
#else
  const cudaError_t code = cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &found, cudaEnableDefault, &result);
#endif
  return code == cudaSuccess && result == cudaDriverEntryPointSuccess ? reinterpret_cast<Encode>(found) : nullptr;
}

/// [sequences, length, heads * kDim] in boxes of kTile rows of one head.
template <class T, int kDim>
bool describe(ConstView m, std::int64_t sequences, std::int64_t length, CUtensorMap& map) {
  static const Encode encode = find_encode();
  if (encode == nullptr) return false;
  constexpr auto kType = std::is_same_v<T, __half> ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  const auto columns = static_cast<cuuint64_t>(m.columns()), row = static_cast<cuuint64_t>(m.stride) * 2;
  const auto rows = static_cast<cuuint64_t>(length), all = static_cast<cuuint64_t>(sequences);
  void* data = const_cast<std::byte*>(m.data);
  constexpr cuuint32_t kOnes[4] = {1, 1, 1, 1};
  CUresult result;
  if constexpr (Slots<kDim>::kWhole) {
    const cuuint64_t sizes[3] = {columns, rows, all}, strides[2] = {row, rows * row};
    const cuuint32_t box[3] = {kDim, kTile, 1};
    result = encode(&map, kType, 3, data, sizes, strides, box, kOnes, CU_TENSOR_MAP_INTERLEAVE_NONE,
                    CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  } else {
    const cuuint64_t sizes[4] = {16, rows, columns / 16, all}, strides[3] = {row, 32, rows * row};
    const cuuint32_t box[4] = {16, kTile, kDim / 16, 1};
    result = encode(&map, kType, 4, data, sizes, strides, box, kOnes, CU_TENSOR_MAP_INTERLEAVE_NONE,
                    CU_TENSOR_MAP_SWIZZLE_32B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  }
  return result == CUDA_SUCCESS;
}

template <class T, int kDim, int kTail>
cudaError_t launch(const AttentionArgs& a, int processors, cudaStream_t stream) {
  CUtensorMap keys, values;
  const std::int64_t length = a.keys.longest, sequences = a.keys.count;
  if (!describe<T, kDim>(a.k, sequences, length, keys) || !describe<T, kDim>(a.v, sequences, length, values)) {
    return cudaErrorNotSupported;
  }
  WgmmaCall c;
  c.q = a.q.data, c.out = a.out.data, c.ldq = a.q.stride, c.ldo = a.out.stride;
  c.length = static_cast<std::int32_t>(length), c.heads = a.heads;
  c.query_tiles = (c.length + kQueries - 1) / kQueries, c.key_tiles = (c.length + kTile - 1) / kTile;
  c.scale = exponent_scale(a.head_dim);
  // Few heads are divided among blocks; and a head that is longer than the ring stays only while every warpgroup has no
  // more than one tile of queries.
  const std::int64_t heads = sequences * a.heads, most = (c.query_tiles + kConsumers - 1) / kConsumers;
  const bool fits = 2 * c.key_tiles <= Slots<kDim>::kCount;
  c.parts = static_cast<std::int32_t>(fits ? std::min(most, (processors + heads - 1) / heads) : most);
  c.items = static_cast<std::int32_t>(heads * c.parts);
  const auto kernel = attention_wgmma_kernel<T, kDim, kTail>;
  return launch_shared(kernel, dim3(static_cast<unsigned>(std::min(processors, c.items))), kThreads, kMemory, stream,
                       keys, values, c);
}

template <class T, int kDim>
cudaError_t launch_for_tail(const AttentionArgs& a, int processors, cudaStream_t stream) {
  const std::int64_t tail = (a.keys.longest - 1) % kTile + 1;
  if (tail <= 16) return launch<T, kDim, 16>(a, processors, stream);
  if (tail <= 80) return launch<T, kDim, 80>(a, processors, stream);
  return launch<T, kDim, kTile>(a, processors, stream);
}

template <class T>
cudaError_t launch_for_head(const AttentionArgs& a, int processors, cudaStream_t stream) {
  if (a.head_dim == 64) return launch_for_tail<T, 64>(a, processors, stream);
  return launch_for_tail<T, 80>(a, processors, stream);
}

}  // namespace

bool wgmma_fits(const AttentionArgs& a) {
  const bool uniform = a.queries.offsets == nullptr && a.keys.offsets == nullptr && !a.causal && !a.prefix_k &&
                       a.queries.count == a.keys.count && a.queries.longest == a.keys.longest;
  // Shorter sequences leave most of a tile empty.
  return uniform && a.keys.longest > kQueries && (a.head_dim == 64 || a.head_dim == 80) &&
         a.keys.count * a.heads * a.queries.longest < std::int64_t{1} << 31;
}

cudaError_t attention_wgmma(const AttentionArgs& a, int processors, cudaStream_t stream) {
  if (a.q.dtype == DType::f16) return launch_for_head<__half>(a, processors, stream);
  if (a.q.dtype == DType::bf16) return launch_for_head<__nv_bfloat16>(a, processors, stream);
  return cudaErrorInvalidValue;
}

}  // namespace tandem::backend::cuda
