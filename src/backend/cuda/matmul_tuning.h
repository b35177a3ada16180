// Which of cuBLASLt's algorithms is fastest for a product, found by timing it as a pass would compute it.
#pragma once

#include <cublasLt.h>

#include <functional>
#include <vector>

#include "backend/cuda/matmul.h"

namespace tandem::backend::cuda {

/// In a pass a product's input was just written and its weight was last read a pass ago, so the one is in the cache and
/// the other comes from memory. Repeating one product would leave both in the cache, which favours other algorithms
/// where rows are few: what is repeated here takes its weight from as many copies as the cache cannot hold. The
/// repetitions are recorded as a graph, since the host issues small products more slowly than a device computes them.
class MatmulTuner {
 public:
  /// Issues a product on the stream.
  using Multiply = std::function<cublasStatus_t(const MatmulCall&, const cublasLtMatmulAlgo_t&)>;
  MatmulTuner(Health& health, int device, cudaStream_t stream, cublasLtHandle_t handle, Multiply multiply);

  /// The fastest of `proposed` (not empty, best guess first) and, where the output has too few tiles for the device, of
  /// the same with their sums split. What was written over, residuals in place included, is as it was when this
  /// returns. Throws out_of_memory where the copies do not fit the device.
  cublasLtMatmulAlgo_t fastest(const MatmulCall& call, std::vector<cublasLtMatmulAlgo_t> proposed);

 private:
  struct Candidate {
    cublasLtMatmulAlgo_t algo;
    std::size_t order = 0;  ///< in which they were proposed; splits come behind
    bool split = false;     ///< made here
    float least = 0;        ///< microseconds of one product; infinite where it refuses
  };
  using Graph = Owned<cudaGraphExec_t, cudaGraphExecDestroy>;

  void add_splits(const MatmulCall& call, std::vector<Candidate>& candidates) const;
  /// Copies the weight as often as it takes.
  void copy_weight(const MatmulCall& call);
  /// Null where the algorithm refuses, or cannot be recorded.
  Graph record(const MatmulCall& call, const cublasLtMatmulAlgo_t& algo, int products);
  /// Microseconds of a product.
  float time(const Graph& graph, int products);
  int products_for(float us) const;
  cublasLtMatmulAlgo_t best_of(const MatmulCall& call, std::vector<Candidate> candidates,
                               const cublasLtMatmulAlgo_t& reference, int products);
  /// Whether two algorithms compute the same, but for rounding.
  bool agree(const MatmulCall& call, const cublasLtMatmulAlgo_t& a, const cublasLtMatmulAlgo_t& b);
  std::vector<float> result(const MatmulCall& call, const cublasLtMatmulAlgo_t& algo);
  /// The output's memory, where it is an input as well.
  void keep(const MatmulCall& call);
  void restore(const MatmulCall& call);

  Health& health_;
  const int device_;
  cudaStream_t stream_;
  cublasLtHandle_t handle_;
  const Multiply multiply_;
  std::size_t cache_ = 0;    ///< bytes of the device's L2
  int multiprocessors_ = 0;  ///< of the device
  Event begin_, end_;
  Buffer copies_, kept_;
  std::vector<const void*> weights_;  ///< taken in turn
};

}  // namespace tandem::backend::cuda
