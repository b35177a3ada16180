// Weights as the kernels and cuBLASLt read them.
#pragma once

#include <memory>
#include <vector>

#include "backend/backend.h"
#include "backend/cuda/staging.h"

namespace tandem::backend::cuda {

/// A dense matrix [outputs, padded inputs] in the device's memory; padding is zero, so that rows begin at multiples of
/// 16 bytes.
class CudaWeight final : public PreparedWeight {
 public:
  CudaWeight(Buffer memory, std::int64_t outputs, std::int64_t inputs, std::int64_t stride, DType type, bool tf32,
             bool split = false)
      : PreparedWeight(outputs, inputs, memory.bytes(), type, split ? "split rows" : "rows", size_of(type) == 1),
        memory_(std::move(memory)),
        stride_(stride),
        tf32_(tf32),
        split_(split) {}
  const std::byte* data() const noexcept { return memory_.data(); }
  std::int64_t stride() const noexcept { return stride_; }
  bool tf32() const noexcept { return tf32_; }
  /// Rows are split_rows()' three parts of bfloat16, stride() elements together, for inputs that are split as well.
  bool split() const noexcept { return split_; }

  bool folds_norm() const noexcept override { return static_cast<bool>(sums.view()); }
  /// Eight bits, with a scale for every output.
  bool eight() const noexcept { return has_scales(); }
  bool e4m3() const noexcept { return type() == DType::f8e4m3; }

  // Of a layer with its LayerNorm folded in (norm_fold.cu), and of patch embedding with the pixels' normalisation.
  Tensor bias;  ///< f32 [outputs], with what the normalisation adds
  Tensor sums;  ///< f32 [outputs]: of the folded rows; none: nothing was folded
  // Of eight bits.
  Tensor scales;  ///< f32 [outputs]
  /// [outputs] of a layer behind a LayerNorm: what no output exceeds, by its weights alone. Else null.
  std::shared_ptr<const std::vector<float>> bounds;
  float input_scale = 0;  ///< WeightUse's
  // Patch embedding only.
  float alpha = 1;              ///< the product is multiplied by it
  float centre[3] = {0, 0, 0};  ///< subtracted from the pixels

 private:
  Buffer memory_;
  std::int64_t stride_;
  bool tf32_;
  bool split_;
};

/// Makes weights on one device; its functions may be called from several threads.
class WeightMaker {
 public:
  WeightMaker(Health& health, Staging& staging, int device) : health_(health), staging_(staging), device_(device) {}

  std::unique_ptr<CudaWeight> linear(ConstView weight, DType type, bool tf32);
  /// For tf32, where tf32 itself is not enough.
  std::unique_ptr<CudaWeight> split(ConstView weight);
  /// In f16, with the LayerNorm in front of it folded in; its columns are a multiple of 8 and at most kMostFolded.
  std::unique_ptr<CudaWeight> folded(ConstView weight, ConstView bias, ConstView gamma, ConstView beta);
  /// In f8e4m3 or i8, for what reads rows of that type. With gamma and beta: behind a LayerNorm, whose outputs' bounds
  /// are found.
  std::unique_ptr<CudaWeight> eight(ConstView weight, DType type, const WeightUse& use, ConstView bias = {},
                                    ConstView gamma = {}, ConstView beta = {});
  std::unique_ptr<CudaWeight> patch_embed(ConstView weight, ConstView bias, const float mean[3], const float std[3],
                                          float rescale, DType type, bool tf32);
  /// float32; a vector (one dimension) is followed by its copies in the sixteen-bit types, see vector_as().
  Tensor vector(ConstView vector);
  Tensor table(ConstView table, DType type);

 private:
  void put(ConstView from, std::byte* to, DType type);
  /// f32, `n` values; none: zeros.
  Buffer floats(ConstView v, std::int64_t n);

  Health& health_;
  Staging& staging_;
  int device_;
};

/// A vector that WeightMaker::vector() made, `n` long, in another type: cuBLASLt adds a bias of the output's type only.
/// `vector` must be the whole of it.
const void* vector_as(DType type, const float* vector, std::int64_t n);

}  // namespace tandem::backend::cuda
