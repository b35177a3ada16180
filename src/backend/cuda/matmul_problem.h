// How a product is described to cuBLASLt.
#pragma once

#include <cublasLt.h>

#include <algorithm>
#include <cstdint>

#include "backend/cuda/matmul.h"

namespace tandem::backend::cuda {

/// What cuBLAS's split products and stream-K need on Hopper; with less, small products are slower.
constexpr std::size_t kWorkspaceBytes = std::size_t{32} << 20;

inline cudaDataType_t type_of(DType t) {
  switch (t) {
    case DType::f16: return CUDA_R_16F;
    case DType::bf16: return CUDA_R_16BF;
    case DType::f8e4m3: return CUDA_R_8F_E4M3;
    case DType::i8: return CUDA_R_8I;
    case DType::i32: return CUDA_R_32I;
    default: return CUDA_R_32F;
  }
}

/// cuBLAS counts columns first: row-major out = x W^T is column-major out^T = W x^T, with W transposed.
struct Problem {
  cublasLtMatmulDescOpaque_t desc;
  cublasLtMatrixLayoutOpaque_t w, x, c, d;

  Problem(const MatmulCall& m, std::int64_t rows) {
    const auto n = static_cast<std::uint64_t>(m.outputs), k = static_cast<std::uint64_t>(m.inputs);
    const auto r = static_cast<std::uint64_t>(rows);
    const bool whole = m.in == DType::i8;
    good = cublasLtMatmulDescInit(&desc,
                                  whole    ? CUBLAS_COMPUTE_32I
                                  : m.tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32
                                           : CUBLAS_COMPUTE_32F,
                                  whole ? CUDA_R_32I : CUDA_R_32F);
    set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
    if (m.in == DType::f8e4m3) set(CUBLASLT_MATMUL_DESC_FAST_ACCUM, std::int8_t{1});
    if (m.column_scales != nullptr) {
      set(CUBLASLT_MATMUL_DESC_A_SCALE_MODE, CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F);
      set(CUBLASLT_MATMUL_DESC_B_SCALE_MODE, CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F);
      set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, m.column_scales);
      set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, m.row_scales);
    }
    if (m.bias != nullptr) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, m.bias);
      set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type_of(m.type));
    }
    layout(w, m.in, k, n, m.ldw);
    layout(x, m.in, k, r, m.ldx);
    layout(c, m.type, n, r, m.residual != nullptr ? m.ldr : m.ldo);
    layout(d, m.type, n, r, m.ldo);
  }
  cublasStatus_t good = CUBLAS_STATUS_SUCCESS;

 private:
  template <class T>
  void set(cublasLtMatmulDescAttributes_t what, const T& value) {
    if (good == CUBLAS_STATUS_SUCCESS) good = cublasLtMatmulDescSetAttribute(&desc, what, &value, sizeof value);
  }
  void layout(cublasLtMatrixLayoutOpaque_t& l, DType type, std::uint64_t rows, std::uint64_t columns,
              std::int64_t stride) {
    // One row: its stride says nothing, but must not be below the width.
    const std::int64_t ld = std::max(stride, static_cast<std::int64_t>(rows));
    if (good == CUBLAS_STATUS_SUCCESS) good = cublasLtMatrixLayoutInit(&l, type_of(type), rows, columns, ld);
  }
};

}  // namespace tandem::backend::cuda
