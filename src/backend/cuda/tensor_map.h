// Descriptions of matrices for the tensor memory accelerator.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdint>

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

}  // namespace tandem::backend::cuda
