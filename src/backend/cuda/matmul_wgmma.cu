// Which of the fused products' instantiations computes a call.
#include "backend/cuda/matmul_wgmma.h"
#include "backend/cuda/matmul_wgmma_kernels.h"

namespace tandem::backend::cuda {

cudaError_t fused_product(const FusedCall& c, DType type, ActivationFn fn, cudaStream_t stream) {
  if (c.rows == 0) return cudaSuccess;
  const bool half = type == DType::f16, quick = fn == ActivationFn::quick_gelu;
  return half ? (quick ? wgmma::wide_f16_quick : wgmma::wide_f16_erf)(c, stream)
              : (quick ? wgmma::wide_bf16_quick : wgmma::wide_bf16_erf)(c, stream);
}

}  // namespace tandem::backend::cuda
