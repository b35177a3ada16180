// Descriptions of matrices for the tensor memory accelerator.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#include "tensor/dtype.h"

namespace tandem::backend::cuda {

using EncodeTensorMap = decltype(&cuTensorMapEncodeTiled);

/// The driver's function, found through the runtime: this library links no driver. Null where the driver has none.
inline EncodeTensorMap encode_tensor_map() {
  static const EncodeTensorMap found = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult result{};
#if CUDART_VERSION >= 12050
    const cudaError_t code =
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &result);
#else
    const cudaError_t code = cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &result);
#endif
    return code == cudaSuccess && result == cudaDriverEntryPointSuccess ? reinterpret_cast<EncodeTensorMap>(function)
                                                                        : nullptr;
  }();
  return found;
}

/// Columns of a tile: rows of 128 bytes, which is what the swizzle works on.
inline constexpr int kTileColumns = 64;

/// A sixteen-bit matrix [rows, columns] whose rows begin at multiples of 16 bytes, in tiles of `tile_rows` rows and
/// kTileColumns columns; zeros beyond the edges. False where the driver cannot.
inline bool describe_tiles(const void* data, DType type, std::int64_t rows, std::int64_t columns, std::int64_t stride,
                           int tile_rows, CUtensorMap& map) {
  const auto encode = encode_tensor_map();
  if (encode == nullptr) return false;
  const cuuint64_t sizes[2] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)};
  // One row: its stride says nothing, but must not be below the width.
  const cuuint64_t strides[1] = {static_cast<cuuint64_t>(rows > 1 ? stride : (columns + 7) / 8 * 8) * 2};
  const cuuint32_t boxes[2] = {kTileColumns, static_cast<cuuint32_t>(tile_rows)};
  constexpr cuuint32_t kOnes[2] = {1, 1};
  return encode(&map, type == DType::f16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2,
                const_cast<void*>(data), sizes, strides, boxes, kOnes, CU_TENSOR_MAP_INTERLEAVE_NONE,
                CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
                CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

}  // namespace tandem::backend::cuda
