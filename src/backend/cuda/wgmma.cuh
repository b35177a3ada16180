// Hopper's instructions as functions: barriers in shared memory that count bytes, and warpgroup products (PTX ISA,
// "mbarrier", "wgmma"). A matrix copied by the tensor memory accelerator arrives at such a barrier.
#pragma once

#include <cstdint>
#define CUTE_SM90_EXTENDED_MMA_SHAPES_ENABLED  // also N = 80
#include <cute/arch/mma_sm90_gmma.hpp>
#include <cute/arch/mma_sm90_gmma_ext.hpp>
#include <utility>

#include "backend/cuda/async_copy.cuh"
#include "backend/cuda/device.cuh"
#include "backend/cuda/tensor_map.h"

namespace tandem::backend::cuda {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

__device__ __forceinline__ void barrier_init(std::uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals));
}
__device__ __forceinline__ void barrier_expect(std::uint32_t barrier, std::uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
__device__ __forceinline__ void barrier_arrive(std::uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
__device__ __forceinline__ void barrier_wait(std::uint32_t barrier, std::uint32_t phase) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra.uni over;\n"
      "bra.uni again;\n"
      "over:\n"
      "}\n" ::"r"(barrier),
      "r"(phase)
      : "memory");
}

/// A tile of a matrix that describe_tiles() described, from column `k` and row `row` on; `barrier` counts its bytes.
__device__ __forceinline__ void fetch(const CUtensorMap& map, std::uint32_t to, std::uint32_t barrier, int k, int row) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(
          to),
      "l"(&map), "r"(barrier), "r"(k), "r"(row)
      : "memory");
}

/// A matrix in shared memory as a warpgroup product reads it: address, two strides and swizzle (PTX ISA, "matrix
/// descriptor"). Its halves are apart where one of them is known when this is compiled: the less has to be computed,
/// and brought to the registers that a product wants, the sooner it begins.
__device__ __forceinline__ constexpr std::uint32_t descriptor_low(std::uint32_t address, std::uint32_t leading) {
  return (address & 0x3ffff) >> 4 | (leading >> 4) << 16;
}
__device__ __forceinline__ constexpr std::uint32_t descriptor_high(std::uint32_t stride, std::uint32_t swizzle) {
  return stride >> 4 | swizzle << 30;
}
__device__ __forceinline__ constexpr std::uint64_t descriptor_of(std::uint32_t low, std::uint32_t high) {
  return static_cast<std::uint64_t>(high) << 32 | low;
}
__device__ __forceinline__ std::uint64_t descriptor(std::uint32_t address, std::uint32_t leading, std::uint32_t stride,
                                                    std::uint32_t swizzle) {
  return descriptor_of(descriptor_low(address, leading), descriptor_high(stride, swizzle));
}
/// What is the same in all lanes, in a register that the warp has once: products want their descriptors there, and
/// where the compiler does not see that a value is uniform it brings it anew for every product.
__device__ __forceinline__ std::uint32_t uniform(std::uint32_t v) {
  return __reduce_or_sync(0xffffffffu, v);
}
using cute::SM90::GMMA::Major;
using cute::SM90::GMMA::ScaleOut;
template <class T, int kColumns, Major kMajor>
struct Product;
#define TANDEM_PRODUCT(columns)                                                          \
  template <Major kMajor>                                                                \
  struct Product<__half, columns, kMajor> {                                              \
    using Op = cute::SM90::GMMA::MMA_64x##columns##x16_F32F16F16_RS<Major::K, kMajor>;   \
  };                                                                                     \
  template <Major kMajor>                                                                \
  struct Product<__nv_bfloat16, columns, kMajor> {                                       \
    using Op = cute::SM90::GMMA::MMA_64x##columns##x16_F32BF16BF16_RS<Major::K, kMajor>; \
  };
TANDEM_PRODUCT(16)
TANDEM_PRODUCT(64)
TANDEM_PRODUCT(80)
TANDEM_PRODUCT(128)
#undef TANDEM_PRODUCT
/// Both operands in shared memory, their inputs one behind the other.
template <class T, int kColumns>
struct SharedProduct;
#define TANDEM_PRODUCT(columns)                                                            \
  template <>                                                                              \
  struct SharedProduct<__half, columns> {                                                  \
    using Op = cute::SM90::GMMA::MMA_64x##columns##x16_F32F16F16_SS<Major::K, Major::K>;   \
  };                                                                                       \
  template <>                                                                              \
  struct SharedProduct<__nv_bfloat16, columns> {                                           \
    using Op = cute::SM90::GMMA::MMA_64x##columns##x16_F32BF16BF16_SS<Major::K, Major::K>; \
  };
TANDEM_PRODUCT(16)
TANDEM_PRODUCT(64)
TANDEM_PRODUCT(80)
TANDEM_PRODUCT(96)
TANDEM_PRODUCT(128)
TANDEM_PRODUCT(160)
TANDEM_PRODUCT(256)
#undef TANDEM_PRODUCT
/// E4M3: 32 inputs a product, which are as many bytes; its sums have fewer bits than float32 ("fast accumulation").
#define TANDEM_PRODUCT(columns)                                             \
  template <>                                                               \
  struct SharedProduct<__nv_fp8_e4m3, columns> {                            \
    using Op = cute::SM90::GMMA::MMA_64x##columns##x32_F32E4M3E4M3_SS_TN<>; \
  };
TANDEM_PRODUCT(64)
TANDEM_PRODUCT(96)
TANDEM_PRODUCT(128)
TANDEM_PRODUCT(160)
TANDEM_PRODUCT(256)
#undef TANDEM_PRODUCT

/// d (+)= a b: a in registers, b in shared memory, d the accumulators of 64 rows.
template <class Op, int kCount, std::size_t... kIndex>
__device__ __forceinline__ void product(const std::uint32_t (&a)[4], std::uint64_t b, float (&d)[kCount],
                                        ScaleOut scale, std::index_sequence<kIndex...>) {
  Op::fma(a[0], a[1], a[2], a[3], b, d[kIndex]..., scale);
}
template <class Op, int kCount>
__device__ __forceinline__ void product(const std::uint32_t (&a)[4], std::uint64_t b, float (&d)[kCount],
                                        ScaleOut scale) {
  product<Op>(a, b, d, scale, std::make_index_sequence<kCount>());
}
/// The same with both operands in shared memory.
template <class Op, int kCount, std::size_t... kIndex>
__device__ __forceinline__ void product(std::uint64_t a, std::uint64_t b, float (&d)[kCount], ScaleOut scale,
                                        std::index_sequence<kIndex...>) {
  Op::fma(a, b, d[kIndex]..., scale);
}
template <class Op, int kCount>
__device__ __forceinline__ void product(std::uint64_t a, std::uint64_t b, float (&d)[kCount], ScaleOut scale) {
  product<Op>(a, b, d, scale, std::make_index_sequence<kCount>());
}
__device__ __forceinline__ void products_begin() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void products_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int kPending>
__device__ __forceinline__ void products_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
/// The compiler must not move what touches these registers over this point.
template <int kCount>
__device__ __forceinline__ void hold(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

#endif

}  // namespace tandem::backend::cuda
