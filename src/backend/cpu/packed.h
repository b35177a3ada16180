// Weight matrices in the order in which the kernels read them.
#pragma once

#include <cstdint>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/kernels.h"

namespace tandem::backend::cpu {

/// Panels of `panel` outputs one after another; inside one, for every step (one float32 or a pair of bf16 of the
/// inputs) the values of all its outputs. Steps are padded with zeros to a multiple of 16, outputs to whole panels:
/// with 64 outputs a panel this is what oneDNN calls BA16a64b and BA16a64b2a, so that it can read the same memory.
class PackedWeight final : public PreparedWeight {
 public:
  PackedWeight(std::int64_t outputs, std::int64_t inputs, DType type, int panel);

  const std::byte* data() const noexcept { return memory_.data(); }
  bool bf16() const noexcept { return type() == DType::bf16; }
  int panel() const noexcept { return panel_; }
  std::int64_t steps() const noexcept { return bf16() ? (inputs() + 1) / 2 : inputs(); }
  std::int64_t padded_steps() const noexcept { return padded_steps_; }
  /// Bytes between the beginnings of two panels; a step takes 4 bytes an output.
  std::int64_t panel_bytes() const noexcept { return padded_steps_ * panel_ * 4; }

  /// Writes `count` outputs from `first` on, given as float32 rows of `inputs` values. `first` begins a panel, and
  /// `count` fills it or ends the matrix.
  void pack(std::int64_t first, std::int64_t count, const float* rows);

  /// Patch embedding only: the folded bias, and what is subtracted from the pixels.
  std::vector<float> bias;
  int centre[3] = {0, 0, 0};

 private:
  void turn(const void* rows, std::int64_t steps, std::int64_t count, std::uint32_t* out) const;

  int panel_;
  std::int64_t padded_steps_;
  Buffer memory_;
};

std::unique_ptr<PackedWeight> pack_linear(ConstView weight, DType type, int panel);

/// The convolution [D, 3, P, P] as a matrix over pixels in memory order (y, x, channel), acting on pixels minus the
/// rounded mean: whole numbers that bf16 holds exactly. What rounding left goes into the bias.
std::unique_ptr<PackedWeight> pack_patch_embed(ConstView weight, ConstView bias, const float mean[3],
                                               const float std[3], float rescale, DType type, int panel);

}  // namespace tandem::backend::cpu
