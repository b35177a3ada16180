// Linear layers in int8, and in E4M3 where there are no kernels of Hopper's: cuBLASLt's products and a kernel behind
// them.
#pragma once

#include "backend/cuda/kernels.h"
#include "backend/cuda/matmul.h"
#include "backend/cuda/runtime.h"
#include "backend/cuda/weights.h"

namespace tandem::backend::cuda {

/// Rows become eight bits with a scale each (or the layer's static one) right in front of the product, behind a
/// LayerNorm in the kernel that normalises. cuBLASLt multiplies them with the weight and leaves plain sums: int32 of
/// int8, which are exact, float32 of E4M3. Scales, bias, activation and residual are applied to these by a kernel of
/// its own. All three take as many rows at a time as the second-level cache can hold the sums of, so that these never
/// go to memory. What it needs is any device's that has products of the type at all. Used by one thread at a time, on
/// one stream.
class SumLinear {
 public:
  SumLinear(Health& health, int device, Queue queue, Matmul& matmul)
      : health_(health), device_(device), queue_(queue), matmul_(matmul) {}

  /// Whether a weight of this shape is computed in i8 or f8e4m3.
  static bool fits(ConstView weight, DType type);

  /// `own`: the weight, for a kernel in front of the product.
  void norm_linear(const NormLinearArgs& a, Ahead own);
  void linear(const LinearArgs& a);

 private:
  /// All of a call but its rows: `rows` says where they come from.
  void run(const CudaWeight& w, QuantizeRowsCall rows, FinishCall end);

  Health& health_;
  const int device_;
  const Queue queue_;
  Matmul& matmul_;
  Buffer rows_, sums_;  ///< of as many rows as are taken at a time: quantised with their scales, and multiplied
};

}  // namespace tandem::backend::cuda
