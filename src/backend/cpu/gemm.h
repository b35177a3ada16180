// out = fn(a W^T + bias) + residual on several threads, by the kernels of this machine.
#pragma once

#include <cstdint>

#include "backend/cpu/kernels.h"
#include "backend/cpu/packed.h"
#include "backend/cpu/team.h"
#include "backend/cpu/workspace.h"

namespace tandem::backend::cpu {

/// Rows are stored through `group` as GemmBlock says.
struct GemmCall {
  const PackedWeight* weight = nullptr;
  const void* a = nullptr;  ///< [rows, inputs] of the weight's type; int8: rows as Kernels::quantise leaves them
  std::int64_t lda = 0;     ///< elements; int8: bytes
  std::int64_t rows = 0;
  const float* row_scale = nullptr;  ///< [rows]: int8 only
  const float* bias = nullptr;
  ActivationFn fn = ActivationFn::none;
  const void* residual = nullptr;  ///< of out's type
  std::int64_t ldr = 0;
  void* out = nullptr;
  bool out_bf16 = false;
  std::int64_t ldo = 0;
  std::int64_t group = 0, out_group = 0, residual_group = 0;
};

/// Every output is summed over the inputs in the same order whatever the number of rows or threads: the same row gives
/// the same bits in any batch.
void gemm(const Kernels& kernels, Workspace& workspace, Team& team, const GemmCall& call);

}  // namespace tandem::backend::cpu
