// Which of the fused products' instantiations computes a call.
#include "backend/cuda/matmul_wgmma.h"
#include "backend/cuda/matmul_wgmma_kernels.h"

namespace tandem::backend::cuda {
namespace {

/// Fewer tiles of 64 x 256 than this leave most multiprocessors without one (measured on an H200: 100 tiles are faster
/// than four times as many small ones, 12 are not).
constexpr std::int64_t kWideTiles = 64;

}  // namespace

cudaError_t fused_product(const FusedCall& c, DType type, ActivationFn fn, cudaStream_t stream) {
  if (c.rows == 0) return cudaSuccess;
  const bool half = type == DType::f16, quick = fn == ActivationFn::quick_gelu;
  if ((c.rows + 63) / 64 * ((c.outputs + 255) / 256) >= kWideTiles) {
    return half ? (quick ? wgmma::wide_f16_quick : wgmma::wide_f16_erf)(c, stream)
                : (quick ? wgmma::wide_bf16_quick : wgmma::wide_bf16_erf)(c, stream);
  }
  return half ? (quick ? wgmma::small_f16_quick : wgmma::small_f16_erf)(c, stream)
              : (quick ? wgmma::small_bf16_quick : wgmma::small_bf16_erf)(c, stream);
}

}  // namespace tandem::backend::cuda
