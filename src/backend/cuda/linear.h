// Linear layers, each by the kernel that is fastest for it.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "backend/cuda/library.h"
#include "backend/cuda/product_choice.h"
#include "backend/cuda/product_timer.h"

namespace tandem::backend::cuda {

/// What is multiplied is x normalised, which the weight knows of (norm_fold.cu): MatmulCall::x is x as it is.
struct Normed {
  ConstView x;
  float eps = 0;
  const float* sums = nullptr;  // [outputs]; null: nothing is normalised
  View room;                    // f16 [rows, columns], for the kernels that need it
  Ahead ahead;                  ///< the weight, for a kernel in front of the product
};

/// cuBLASLt's products with the activation behind them, or, on Hopper, one of this folder's that apply it themselves:
/// as it was measured, else by a rule. Used by one thread at a time, on one stream.
class Linear {
 public:
  /// `ahead`: for ProductTimer. `matmul` and `choices` must stay.
  Linear(Health& health, const CudaDevice& device, Queue queue, Matmul& matmul, Choices& choices, AheadLimits ahead);

  /// out = fn(x W^T + bias) + residual. `m` is the call without its activation; `ahead`: what is read next.
  void run(const LinearArgs& a, const MatmulCall& m, Ahead ahead, const Normed& normed = {});

  /// As Backend's, for the kernels and for cuBLASLt's algorithms.
  void start_tuning();
  std::string tuned() const { return matmul_.tuned() + measured_.text(); }
  int take_tuned(const std::string& text) { return matmul_.take_tuned(text) + measured_.take(text); }

  /// What was measured, for eight-bit products as well, and what measures; none: nothing is timed.
  ProductChoices& measured() noexcept { return measured_; }
  ProductTimer* timer() noexcept { return timer_.get(); }

 private:
  ProductChoice choose(const LinearArgs& a, const MatmulCall& m, Ahead ahead, const Normed& normed);
  /// The fastest; none where there is only one way.
  std::optional<ProductChoice> measure(const LinearArgs& a, const MatmulCall& m, Ahead ahead, const Normed& normed);
  /// What was not measured.
  ProductChoice by_rule(const LinearArgs& a, const MatmulCall& m, bool normed) const;
  bool fits_one_wave(const LinearArgs& a, const MatmulCall& m) const;
  bool fits_wide(const LinearArgs& a, const MatmulCall& m, bool normed) const;
  bool fits(const ProductChoice& choice, const LinearArgs& a, const MatmulCall& m, bool normed) const;

  cudaError_t issue(const ProductChoice& choice, const LinearArgs& a, const MatmulCall& m, Ahead ahead,
                    const Normed& normed);
  cudaError_t one_wave(const LinearArgs& a, const MatmulCall& m, Ahead ahead, const OneWavePlan& plan) const;
  cudaError_t wide(const LinearArgs& a, const MatmulCall& m, const Normed& normed) const;
  cudaError_t by_library(const LinearArgs& a, MatmulCall m);

  Health& health_;
  const CudaDevice& device_;
  const Queue queue_;
  Matmul& matmul_;
  Choices& choices_;
  const AheadLimits ahead_;
  const bool warpgroups_ = device_.major == 9;
  ProductChoices measured_;
  std::unique_ptr<ProductTimer> timer_;  ///< none: nothing is timed
  Buffer spare_;                         ///< for an activation with a residual in place, which no CLIP model has
};

}  // namespace tandem::backend::cuda
