// What the eight-bit linear layers ask of the memory that they are given.
#pragma once

#include <cstdint>

#include "base/strings.h"
#include "tandem/error.h"
#include "tensor/tensor.h"

namespace tandem::backend::cuda {

/// Whether kernels can read it 16 bytes at a time.
inline bool aligned(const void* p) noexcept {
  return reinterpret_cast<std::uintptr_t>(p) % 16 == 0;
}

/// f16 rows that kernels read or write 16 bytes at a time.
inline bool by_vectors(ConstView v) noexcept {
  return v.dtype == DType::f16 && aligned(v.data) && (v.rows() <= 1 || v.stride % 8 == 0);
}

/// Throws internal, saying `what`.
inline void require_eight(bool good, const char* what) {
  if (!good) throw Error(Code::internal, cat("eight-bit linear: ", what));
}

}  // namespace tandem::backend::cuda
