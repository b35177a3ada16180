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

/// Columns of a sixteen-bit tile: rows of 128 bytes, which is what the swizzle works on. Of an eight-bit one, twice as
/// many.
inline constexpr int kTileColumns = 64;

/// A matrix [rows, columns] of f16, bf16 or an eight-bit type, whose rows begin at multiples of 16 bytes, in tiles of
/// `tile_rows` rows of `tile_bytes` (128 or 64, swizzled); zeros beyond the edges. False where the driver cannot.
inline bool describe_tiles(const void* data, DType type, std::int64_t rows, std::int64_t columns, std::int64_t stride,
                           int tile_rows, CUtensorMap& map, int tile_bytes = 128) {
  const auto encode = encode_tensor_map();
  if (encode == nullptr) return false;
  const auto size = static_cast<cuuint64_t>(size_of(type));
  const cuuint64_t sizes[2] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)};
  // One row: its stride says nothing, but must not be below the width.
  const cuuint64_t width = (static_cast<cuuint64_t>(columns) * size + 15) / 16 * 16;
  const cuuint64_t strides[1] = {rows > 1 ? static_cast<cuuint64_t>(stride) * size : width};
  const cuuint32_t boxes[2] = {static_cast<cuuint32_t>(tile_bytes) / static_cast<cuuint32_t>(size),
                               static_cast<cuuint32_t>(tile_rows)};
  constexpr cuuint32_t kOnes[2] = {1, 1};
  const auto elements = type == DType::f16    ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                        : type == DType::bf16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                              : CU_TENSOR_MAP_DATA_TYPE_UINT8;
  const auto swizzle = tile_bytes == 64 ? CU_TENSOR_MAP_SWIZZLE_64B : CU_TENSOR_MAP_SWIZZLE_128B;
  return encode(&map, elements, 2, const_cast<void*>(data), sizes, strides, boxes, kOnes, CU_TENSOR_MAP_INTERLEAVE_NONE,
                swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

}  // namespace tandem::backend::cuda
