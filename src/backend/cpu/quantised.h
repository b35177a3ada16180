// Rows of activations in eight bits, on their way into a product.
#pragma once

#include <cstdint>

#include "backend/cpu/kernels.h"
#include "backend/cpu/team.h"
#include "backend/cpu/workspace.h"
#include "tensor/tensor.h"

namespace tandem::backend::cpu {

/// Normalises rows before they are quantised. Vectors of the rows' width.
struct RowNorm {
  const float *gamma = nullptr, *beta = nullptr;
  float eps = 0;
};

/// Room for the rows of one product. It grows to what the largest call needed and stays.
class QuantisedRows {
 public:
  /// x: [rows, width], float32 or bf16; with a norm float32. step: of every row; 0: every row has its own.
  void take(const Kernels& kernels, Workspace& workspace, Team& team, ConstView x, const RowNorm& norm, float step);

  /// What take() makes room for.
  static std::size_t bytes_for(const Kernels& kernels, std::int64_t rows, std::int64_t width) {
    return static_cast<std::size_t>(rows) * (static_cast<std::size_t>(quantised_bytes(kernels, width)) + sizeof(float));
  }
  /// Held at the moment.
  std::size_t bytes() const noexcept { return rows_.bytes() + steps_.bytes(); }

  const std::byte* data() const noexcept { return rows_.data(); }
  const float* steps() const noexcept { return reinterpret_cast<const float*>(steps_.data()); }
  /// Bytes between the rows of the last take().
  std::int64_t stride() const noexcept { return stride_; }

 private:
  std::int64_t stride_ = 0;
  Buffer rows_, steps_;
};

}  // namespace tandem::backend::cpu
