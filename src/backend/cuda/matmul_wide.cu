// out = fn(scale (x W^T) + shift sums^T + bias) on Hopper in sixteen-bit types, for products of many tiles
// (matmul_wide.cuh).
#include "backend/cuda/matmul_wide.cuh"

namespace tandem::backend::cuda {
namespace {

constexpr int kColumns = 256;

template <class T>
cudaError_t run(const WideCall& c, Queue queue) {
  CUtensorMap x, weight, out;
  if (!describe_tiles(c.x, c.type, c.rows, c.inputs, c.ldx, kRows, x) ||
      !describe_tiles(c.weight, c.type, c.outputs, c.inputs, c.ldw, kColumns / kBlocks, weight) ||
      !describe_tiles(c.out, c.type, c.rows, c.outputs, c.ldo, 64, out)) {
    return cudaErrorNotSupported;
  }
  Work w = work_of<T, kColumns>(c.rows, c.outputs, c.inputs);
  w.bias = c.bias, w.scale = c.scale, w.shift = c.shift, w.sums = c.sums, w.fn = c.fn;
  return launch_wide<T, T, kColumns>(x, weight, out, out, w, c.processors, queue);
}

}  // namespace

bool wide_fits(std::int64_t rows, std::int64_t outputs, std::int64_t inputs) {
  using Shape = Wide<__half, kColumns>;
  return inputs > (Shape::kParts - 1) * Shape::kDepth && outputs >= 8 && rows > 1 && rows < (std::int64_t{1} << 31) &&
         (rows + kRows) / kRows * (outputs + kColumns) / kColumns < (std::int64_t{1} << 30);
}

bool wide_fills(std::int64_t rows, std::int64_t outputs, int processors) {
  const std::int64_t clusters = std::max(1, processors / kBlocks);
  const std::int64_t tiles = (rows + kBlocks * kRows - 1) / (kBlocks * kRows) * ((outputs + kColumns - 1) / kColumns);
  const std::int64_t waves = (tiles + clusters - 1) / clusters;
  return 5 * tiles >= 4 * waves * clusters;
}

cudaError_t wide_product(const WideCall& c, Queue queue) {
  if (c.rows == 0 || c.outputs == 0) return cudaSuccess;
  if (c.type == DType::f16) return run<__half>(c, queue);
  if (c.type == DType::bf16) return run<__nv_bfloat16>(c, queue);
  return cudaErrorInvalidValue;
}

}  // namespace tandem::backend::cuda
