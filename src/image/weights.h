// Resampling weights of one axis, as integers, exactly as Pillow or torch computes them.
#pragma once

#include <cstdint>
#include <vector>

#include "image/fit.h"

namespace tandem::image {

/// Whose integers: Pillow's 22-bit fixed point, or torch's 16-bit weights with the largest precision that they allow.
enum class Arithmetic { pillow, torch };

/// Weights of output pixels [first, first + outputs) of an axis that goes from `in` to `out` pixels.
struct AxisWeights {
  int shift = 0;                      ///< fractional bits
  int taps = 0;                       ///< row length of `weights`
  std::vector<int> start;             ///< first source pixel of each output
  std::vector<int> count;             ///< source pixels of each output, 1 … taps
  std::vector<std::int32_t> weights;  ///< [outputs, taps]

  int source_begin() const noexcept;  ///< first source pixel that any output reads
  int source_end() const noexcept;    ///< one past the last
};

/// Computes them in double, as both references do; only the outputs asked for, although torch's precision depends on
/// the largest weight of all `out` outputs. Sides are ≥ 1. The filters are antialiased: their support grows with the
/// factor of a reduction. Sources: Pillow's Resample.c (precompute_coeffs, normalize_coeffs_8bpc), ATen's
/// UpSampleKernel.cpp (_compute_index_ranges_int16_weights).
AxisWeights make_weights(int in, int out, int first, int outputs, Resample resample, Arithmetic arithmetic);

}  // namespace tandem::image
