// out = fn(x W^T + bias) on Hopper, the activation inside the product's epilogue: CUTLASS's warp-specialised kernels
// with an activation of our own. Included by one file per instantiation, so that they compile side by side.
#pragma once

#include <cutlass/cutlass.h>
#include <cutlass/gemm/device/gemm_universal_adapter.h>

#include <cutlass/epilogue/collective/collective_builder.hpp>
#include <cutlass/epilogue/fusion/operations.hpp>
#include <cutlass/gemm/collective/collective_builder.hpp>
#include <cutlass/gemm/kernel/gemm_universal.hpp>

#include "backend/cuda/gelu.cuh"
#include "backend/cuda/matmul_wgmma_kernels.h"

namespace tandem::backend::cuda::wgmma {

/// CUTLASS wants activations as templates over the element and over arrays of it.
template <template <class> class Fn, class T>
struct OnArrays;

#define TANDEM_ACTIVATION(Name, function)                                                                       \
  template <class T>                                                                                            \
  struct Name {                                                                                                 \
    static constexpr bool kIsHeavy = true;                                                                      \
    __device__ __forceinline__ T operator()(const T& x) const { return T(function(float(x))); }                 \
  };                                                                                                            \
  template <class T, int kCount>                                                                                \
  struct Name<cutlass::Array<T, kCount>> {                                                                      \
    static constexpr bool kIsHeavy = true;                                                                      \
    __device__ __forceinline__ cutlass::Array<T, kCount> operator()(const cutlass::Array<T, kCount>& x) const { \
      cutlass::Array<T, kCount> y;                                                                              \
      _Pragma("unroll") for (int i = 0; i < kCount; ++i) y[i] = T(function(float(x[i])));                       \
      return y;                                                                                                 \
    }                                                                                                           \
  };
TANDEM_ACTIVATION(QuickGelu, quick_gelu_fast)
TANDEM_ACTIVATION(GeluErf, gelu_erf_fast)
#undef TANDEM_ACTIVATION

template <class Element, template <class> class Fn, class TileShape, class ClusterShape, class MainSchedule,
          class EpilogueSchedule>
struct FusedProduct {
  using RowMajor = cutlass::layout::RowMajor;
  using ColumnMajor = cutlass::layout::ColumnMajor;
  static constexpr int kAlignment = 8;
  using Fusion = cutlass::epilogue::fusion::LinCombPerColBiasEltAct<Fn, Element, float, Element, void, float>;
  using Epilogue = typename cutlass::epilogue::collective::CollectiveBuilder<
      cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, TileShape, ClusterShape,
      cutlass::epilogue::collective::EpilogueTileAuto, float, float, void, RowMajor, kAlignment, Element, RowMajor,
      kAlignment, EpilogueSchedule, Fusion>::CollectiveOp;
  using Mainloop = typename cutlass::gemm::collective::CollectiveBuilder<
      cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, Element, RowMajor, kAlignment, Element, ColumnMajor,
      kAlignment, float, TileShape, ClusterShape,
      cutlass::gemm::collective::StageCountAutoCarveout<static_cast<int>(sizeof(typename Epilogue::SharedStorage))>,
      MainSchedule>::CollectiveOp;
  using Kernel = cutlass::gemm::kernel::GemmUniversal<cute::Shape<int, int, int, int>, Mainloop, Epilogue,
                                                      cutlass::gemm::PersistentScheduler>;
  using Gemm = cutlass::gemm::device::GemmUniversalAdapter<Kernel>;

  static cudaError_t run(const FusedCall& c, cudaStream_t stream) {
    using Arguments = typename Gemm::Arguments;
    const cute::Shape<int, int, int, int> shape{static_cast<int>(c.rows), static_cast<int>(c.outputs),
                                                static_cast<int>(c.inputs), 1};
    Arguments a;
    a.mode = cutlass::gemm::GemmUniversalMode::kGemm;
    a.problem_shape = shape;
    a.mainloop.ptr_A = static_cast<const Element*>(c.x);
    a.mainloop.dA = {c.ldx, cute::Int<1>{}, 0};
    a.mainloop.ptr_B = static_cast<const Element*>(c.weight);
    a.mainloop.dB = {c.ldw, cute::Int<1>{}, 0};
    a.epilogue.ptr_D = static_cast<Element*>(c.out);
    a.epilogue.dD = {c.ldo, cute::Int<1>{}, 0};
    a.epilogue.thread.alpha = 1, a.epilogue.thread.beta = 0;
    a.epilogue.thread.bias_ptr = static_cast<const Element*>(c.bias);
    a.hw_info.device_id = c.device, a.hw_info.sm_count = c.processors;
    // Tiles one after the other along the outputs: the rows in flight stay in the second-level cache.
    using Raster = decltype(a.scheduler.raster_order);
    a.scheduler.raster_order = Raster::AlongN;
    Gemm gemm;
    if (gemm.initialize(a, nullptr, stream) != cutlass::Status::kSuccess) return cudaErrorInvalidConfiguration;
    return gemm.run(stream) == cutlass::Status::kSuccess ? cudaSuccess : cudaErrorLaunchFailure;
  }
};

using cute::_1;
using cute::_2;
using cute::_256;
using cute::_64;
/// Each warpgroup has a tile of its own: one's epilogue runs beside the other's products.
template <class Element, template <class> class Fn>
using Wide = FusedProduct<Element, Fn, cute::Shape<_64, _256, _64>, cute::Shape<_2, _1, _1>,
                          cutlass::gemm::KernelTmaWarpSpecializedPingpong, cutlass::epilogue::TmaWarpSpecialized>;

}  // namespace tandem::backend::cuda::wgmma
