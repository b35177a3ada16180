// How long ways to compute a product take, as a pass would compute it.
#pragma once

#include <functional>
#include <vector>

#include "backend/cuda/matmul.h"

namespace tandem::backend::cuda {

/// Up to how many rows, and bytes of the weight, a product finds some of its weight in the cache.
struct AheadLimits {
  std::int64_t rows = 0;
  std::size_t bytes = 0;
};

/// In a pass a product's input was just written and its weight was last read a pass ago, so the one is in the cache and
/// the other comes from memory. Repeating one product would leave both in the cache, which favours other algorithms
/// where rows are few: what is repeated here takes its weight from as many copies as the cache cannot hold. Where a
/// pass is so small that the operation in front brings the weight into the cache, as much of it as there is time for,
/// every copy is taken twice in a row: half of the products read memory, half the cache. The repetitions are recorded
/// as a graph, since the host issues small products more slowly than a device computes them.
class ProductTimer {
 public:
  /// Issues the product on the stream: begin()'s call, with its weight or a copy of it. False where it cannot be
  /// computed so.
  using Way = std::function<bool(const MatmulCall& call)>;

  ProductTimer(Health& health, int device, cudaStream_t stream, AheadLimits ahead);

  /// Makes copies of the weight, and of the output where it is an input as well. Throws out_of_memory.
  void begin(const MatmulCall& call);
  /// The ways that can be used, the fastest first; what is equally fast, within the noise, in the order given. Between
  /// begin() and end(), for the same call. What stands in the output is worth nothing afterwards.
  std::vector<std::size_t> rank(const std::vector<Way>& ways);
  /// The output's memory as it was in begin(), where it is an input as well.
  void restore();
  void end();

  /// Of the output, from its first element to its last.
  static std::size_t output_bytes(const MatmulCall& call);

 private:
  using Graph = Owned<cudaGraphExec_t, cudaGraphExecDestroy>;

  void copy_weight();
  /// Null where the way cannot be used, or not be recorded.
  Graph record(const Way& way, int products);
  /// Microseconds of a product.
  float time(const Graph& graph, int products);
  int products_for(float us) const;
  /// How often a copy of the weight is taken in a row.
  int in_a_row() const noexcept;
  std::vector<float> first_round(const std::vector<Way>& ways, int& products);

  Health& health_;
  const int device_;
  cudaStream_t stream_;
  const AheadLimits ahead_;
  std::size_t cache_ = 0;  ///< bytes of the device's L2
  Event begin_, end_;
  Buffer copies_, kept_;
  MatmulCall call_;
  std::vector<const void*> weights_;  ///< taken in turn
};

}  // namespace tandem::backend::cuda
