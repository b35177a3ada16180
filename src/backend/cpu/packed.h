// Weight matrices in the order in which the kernels read them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/kernels.h"

namespace tandem::backend::cpu {

/// Panels of `panel` outputs one after another; inside one, for every step (one float32, a pair of bf16 or four int8 of
/// the inputs) the values of all its outputs. Steps are padded with zeros to a multiple of 16, outputs to whole panels:
/// with 64 outputs a panel this is what oneDNN calls BA16a64b and BA16a64b2a, so that it can read the same memory.
/// An int8 output has a scale of its own: its weights are whole numbers within [-127, 127] times that.
class PackedWeight final : public PreparedWeight {
 public:
  PackedWeight(std::int64_t outputs, std::int64_t inputs, DType type, int panel);

  const std::byte* data() const noexcept { return memory_.data(); }
  bool bf16() const noexcept { return type() == DType::bf16; }
  bool int8() const noexcept { return type() == DType::i8; }
  int panel() const noexcept { return panel_; }
  std::int64_t steps() const noexcept { return (inputs() + inputs_of_step() - 1) / inputs_of_step(); }
  std::int64_t padded_steps() const noexcept { return padded_steps_; }
  /// Bytes between the beginnings of two panels; a step takes 4 bytes an output.
  std::int64_t panel_bytes() const noexcept { return padded_steps_ * panel_ * 4; }

  /// Writes `count` outputs from `first` on, given as float32 rows of `inputs` values. `first` begins a panel, and
  /// `count` fills it or ends the matrix.
  void pack(std::int64_t first, std::int64_t count, const float* rows);

  /// int8 only, before pack(): scales that are not to be found from the weights (WeightUse::steps).
  void take_scales(const float* scales) { std::copy_n(scales, outputs(), scales_.begin()); }
  /// int8 only, zeros beyond the last output: the scales, and the sums that products begin with.
  const float* scales() const noexcept { return scales_.data(); }
  const std::int32_t* begin_with() const noexcept { return begin_with_.data(); }
  /// What was added to the quantised inputs (Kernels::int8_offset): the sums take it off.
  int input_offset = 0;
  /// From prepare_norm_linear().
  bool takes_norm = false;
  bool folds_norm() const noexcept override { return takes_norm; }
  /// One step of the inputs' static scale; 0: every row has its own.
  float input_scale = 0;

  /// Patch embedding only: the folded bias, and what is subtracted from the pixels.
  std::vector<float> bias;
  int centre[3] = {0, 0, 0};

 private:
  std::int64_t inputs_of_step() const noexcept { return 4 / static_cast<std::int64_t>(size_of(type())); }
  void quantise(std::int64_t first, std::int64_t count, const float* rows, std::int8_t* fours);
  void turn(const void* rows, std::int64_t steps, std::int64_t count, std::uint32_t* out) const;

  int panel_;
  std::int64_t padded_steps_;
  Buffer memory_;
  std::vector<float> scales_;
  std::vector<std::int32_t> begin_with_;
};

std::unique_ptr<PackedWeight> pack_linear(ConstView weight, DType type, int panel);

/// In int8. input_offset: see PackedWeight. Throws bad_data where a weight is not finite.
std::unique_ptr<PackedWeight> pack_int8(ConstView weight, int panel, int input_offset, const WeightUse& use);

/// The convolution [D, 3, P, P] as a matrix over pixels in memory order (y, x, channel), acting on pixels minus the
/// rounded mean: whole numbers that bf16 holds exactly. What rounding left goes into the bias.
std::unique_ptr<PackedWeight> pack_patch_embed(ConstView weight, ConstView bias, const float mean[3],
                                               const float std[3], float rescale, DType type, int panel);

}  // namespace tandem::backend::cpu
