// out = fn(scales (x W^T) + bias) + residual in E4M3 on Hopper, for products of many tiles (matmul_wide.cuh).
#include "backend/cuda/matmul_eight.h"
#include "backend/cuda/matmul_wide.cuh"

namespace tandem::backend::cuda {
namespace {

using Element = __nv_fp8_e4m3;

template <int kColumns>
cudaError_t run(const EightCall& c, Queue queue) {
  CUtensorMap x, weight, out, residual;
  const bool eight = c.type == DType::f8e4m3;
  if (!describe_tiles(c.x, DType::f8e4m3, c.rows, c.inputs, c.ldx, kRows, x) ||
      !describe_tiles(c.weight, DType::f8e4m3, c.outputs, c.inputs, c.ldw, kColumns / kBlocks, weight) ||
      !describe_tiles(c.out, c.type, c.rows, c.outputs, c.ldo, 64, out, eight ? 64 : 128)) {
    return cudaErrorNotSupported;
  }
  residual = out;
  if (c.residual != nullptr && !describe_tiles(c.residual, c.type, c.rows, c.outputs, c.ldr, 64, residual)) {
    return cudaErrorNotSupported;
  }
  Work w = work_of<Element, kColumns>(c.rows, c.outputs, c.inputs);
  w.bias = c.bias, w.scale = c.row_scales, w.sums = c.column_scales, w.fn = c.fn;
  w.alpha = c.alpha, w.inverse = 1 / c.step, w.adds = c.residual != nullptr;
  return eight ? launch_wide<Element, Element, kColumns>(x, weight, out, residual, w, c.processors, queue)
               : launch_wide<Element, __half, kColumns>(x, weight, out, residual, w, c.processors, queue);
}

template <int kColumns>
bool fits(const EightCall& c) {
  using Shape = Wide<Element, kColumns>;
  const bool types = c.type == DType::f16 || (c.type == DType::f8e4m3 && c.residual == nullptr);
  return types && c.fn != ActivationFn::gelu_tanh && c.inputs > (Shape::kParts - 1) * Shape::kDepth && c.outputs >= 8 &&
         c.rows > 1 && c.rows < (std::int64_t{1} << 31) &&
         (c.rows + kRows) / kRows * (c.outputs + kColumns) / kColumns < (std::int64_t{1} << 30);
}

}  // namespace

bool eight_wide_fits(const EightCall& c, int columns) {
  return columns == 256 ? fits<256>(c) : columns == 128 && fits<128>(c);
}

double eight_wide_waves(const EightCall& c, int columns) {
  const std::int64_t clusters = std::max(1, c.processors / kBlocks), height = kBlocks * kRows;
  const std::int64_t tiles = (c.rows + height - 1) / height * ((c.outputs + columns - 1) / columns);
  return static_cast<double>((tiles + clusters - 1) / clusters);
}

cudaError_t eight_wide_product(const EightCall& c, int columns, Queue queue) {
  if (c.rows == 0 || c.outputs == 0) return cudaSuccess;
  if (columns == 256) return run<256>(c, queue);
  if (columns == 128) return run<128>(c, queue);
  return cudaErrorInvalidConfiguration;
}

}  // namespace tandem::backend::cuda
