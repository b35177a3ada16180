// Linear layers in E4M3 on Hopper: which kernel computes them, and in which form each of them leaves its result to the
// next.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <vector>

#include "backend/cuda/linear.h"
#include "backend/cuda/matmul_eight.h"
#include "backend/cuda/weights.h"

namespace tandem::backend::cuda {

/// Weights have a scale for every output. Rows that a LayerNorm gives have scales of their own, found as they come.
/// What attention and an activation give is stored in E4M3 by whoever computes it, with one scale for all of it: the
/// one that calibration chose for its reader, else what nothing can exceed. That bound follows from the weights alone,
/// since a normalised row's norm is at most sqrt(D), and E4M3 has so many exponents that a bound far above what comes
/// costs no precision. Such a result stands at the place of a sixteen-bit one, every row where that row would begin.
///
/// What it remembers between calls is of the host: which result stands where, and in which form. Used by one thread at
/// a time, on one stream.
class EightLinear {
 public:
  EightLinear(Health& health, const CudaDevice& device, Queue queue, Matmul& matmul, Linear& linear, Choices& choices);

  /// Whether there are kernels for a weight of this shape; `normed`: behind a LayerNorm.
  static bool fits(ConstView weight, bool normed);

  /// Of weights in eight bits. `ahead`: what is read next; `own`: the weight, for a kernel in front of the product.
  void norm_linear(const NormLinearArgs& a, Ahead ahead, Ahead own);
  void linear(const LinearArgs& a, Ahead ahead);
  /// AttentionDevice::step for this call, whose result then has to be written so.
  float attention_step(const AttentionArgs& a);
  /// `out` is about to be written by another operation.
  void forget(ConstView out);

 private:
  using Bounds = std::shared_ptr<const std::vector<float>>;
  /// A product's result, in f16, and the bounds of its columns.
  struct Made {
    const std::byte *data = nullptr, *end = nullptr;
    std::int64_t stride = 0;
    Bounds bounds;
  };
  /// A result in E4M3 that waits for its reader.
  struct Written {
    const std::byte *begin = nullptr, *end = nullptr;
    const PreparedWeight* reader = nullptr;
    float step = 0;
  };
  /// Of a call without its activation, for choosing.
  static MatmulCall product_of(const EightCall& c);
  bool fits(const ProductChoice& choice, const EightCall& c);
  ProductChoice by_rule(const EightCall& c);
  ProductChoice choose(const EightCall& c);
  std::optional<ProductChoice> measure(const EightCall& c);
  cudaError_t issue(const ProductChoice& choice, const EightCall& c);
  MatmulCall library_call(const EightCall& c);
  bool library_fits(const EightCall& c);
  void run(const EightCall& c) { health_.check(issue(choose(c), c), "linear"); }
  /// f16 rows in E4M3, in memory of this object, which stays for passes that were recorded with it.
  void quantize(ConstView x, EightCall& c);
  EightCall call_of(const CudaWeight& w, ConstView bias, View out, Ahead ahead) const;

  Health& health_;
  const CudaDevice& device_;
  const Queue queue_;
  Matmul& matmul_;
  Linear& linear_;
  Choices& choices_;
  std::array<Made, 2> made_;  ///< the last block's keys and values, and its queries
  std::size_t made_next_ = 0;
  Written written_;
  std::vector<Buffer> rooms_;  ///< quantize()'s, the largest last
  Buffer ones_;                ///< scales of one, for the library
  Buffer spare_;               ///< as Linear's
  std::map<ProductShape, bool> library_fits_;
};

}  // namespace tandem::backend::cuda
