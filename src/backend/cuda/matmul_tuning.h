// Which of cuBLASLt's algorithms is fastest for a product, found by timing.
#pragma once

#include <cublasLt.h>

#include <functional>
#include <vector>

#include "backend/cuda/matmul.h"

namespace tandem::backend::cuda {

class ProductTimer;

class MatmulTuner {
 public:
  /// Issues a product on the stream.
  using Multiply = std::function<cublasStatus_t(const MatmulCall&, const cublasLtMatmulAlgo_t&)>;
  MatmulTuner(Health& health, int device, cudaStream_t stream, cublasLtHandle_t handle, ProductTimer& timer,
              Multiply multiply);

  /// The fastest of `proposed` (not empty, best guess first) and, where the output has too few tiles for the device, of
  /// the same with their sums split. A residual in place is as it was when this returns. Throws out_of_memory where
  /// what timing needs does not fit the device.
  cublasLtMatmulAlgo_t fastest(const MatmulCall& call, const std::vector<cublasLtMatmulAlgo_t>& proposed);

 private:
  /// Behind the algorithms that there are, the same with their sums split.
  void add_splits(const MatmulCall& call, std::vector<cublasLtMatmulAlgo_t>& algorithms) const;
  /// Whether two algorithms compute the same, but for rounding.
  bool agree(const MatmulCall& call, const cublasLtMatmulAlgo_t& a, const cublasLtMatmulAlgo_t& b);
  std::vector<float> result(const MatmulCall& call, const cublasLtMatmulAlgo_t& algo);

  Health& health_;
  cudaStream_t stream_;
  cublasLtHandle_t handle_;
  ProductTimer& timer_;
  const Multiply multiply_;
  int multiprocessors_ = 0;  ///< of the device
};

}  // namespace tandem::backend::cuda
