// oneDNN's matrix product behind the same call as the own kernels, for chips whose matrix units (AMX) only it drives.
#pragma once

#include <memory>

#include "backend/cpu/gemm.h"

namespace tandem::backend::cpu {

/// Plans (oneDNN's primitives, each compiled for one shape) are made at the first call of a shape and kept, the 64 used
/// last. Used by one thread at a time; the OpenMP threads are its own caller's.
class OneDnnMatmul {
 public:
  /// Whether this build has oneDNN (-DTANDEM_ONEDNN).
  static bool available() noexcept;

  /// Throws unsupported where it has not.
  explicit OneDnnMatmul(int threads);
  ~OneDnnMatmul();
  OneDnnMatmul(const OneDnnMatmul&) = delete;
  OneDnnMatmul& operator=(const OneDnnMatmul&) = delete;

  /// Makes the plan now. False: oneDNN takes this shape or packing only more slowly, and the caller computes it.
  bool prepare(const GemmCall& call);
  /// False as above, with nothing computed. Rows must not be grouped.
  bool run(const GemmCall& call);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem::backend::cpu
