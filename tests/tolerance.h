// Where every tolerance of the tests comes from.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>

#include "tandem/types.h"
#include "tensor/dtype.h"

namespace tandem::test {

struct Tolerance {
  float absolute, relative;
};

/// Rounding of the stored type, plus a sum of `reduced` float32 terms of order one that rounds like a random walk.
inline Tolerance tolerance(DType type, std::int64_t reduced) {
  const float unit = type == DType::f32 ? 0x1p-24F : type == DType::f16 ? 0x1p-11F : 0x1p-8F;
  const float e = 4 * (unit + 0x1p-24F * std::sqrt(static_cast<float>(reduced)));
  return {e, e};
}

/// The same for a product in one precision. Inputs of the sixteen-bit types are exact on both sides; tf32 cuts float32
/// inputs to 10 bits of fraction on the way, so each of its terms is wrong by up to 2^-10 of itself.
inline Tolerance product_tolerance(Precision precision, DType out, std::int64_t reduced) {
  Tolerance t = tolerance(out, reduced);
  if (precision == Precision::tf32) t.absolute += 0x1p-8F, t.relative += 0x1p-8F;
  return t;
}

/// NaN is close to nothing but NaN.
inline bool close(float got, float want, Tolerance t) {
  if (std::isnan(want)) return std::isnan(got);
  if (std::isinf(want)) return got == want;
  return std::abs(got - want) <= t.absolute + t.relative * std::abs(want);
}

inline double cosine(std::span<const float> a, std::span<const float> b) {
  double ab = 0, aa = 0, bb = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    ab += static_cast<double>(a[i]) * b[i];
    aa += static_cast<double>(a[i]) * a[i];
    bb += static_cast<double>(b[i]) * b[i];
  }
  return ab / std::sqrt(aa * bb);
}

/// The cosine with the float32 reference that a precision promises for every vector.
inline double least_cosine(Precision precision) {
  switch (precision) {
    case Precision::tf32: return 0.99999;
    case Precision::fp16: return 0.9999;
    case Precision::bf16: return 0.999;
    case Precision::int8: return 0.99;
    case Precision::fp8: return 0.985;
    default: return 0.999999;
  }
}

/// Largest difference, as a share of the wanted vector's norm: what "max abs difference" means in docs/accuracy.
inline double largest_difference(std::span<const float> got, std::span<const float> want) {
  double largest = 0, squares = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double d = std::abs(static_cast<double>(got[i]) - want[i]);
    if (!(d <= largest)) largest = d;  // NaN stays
    squares += static_cast<double>(want[i]) * want[i];
  }
  return largest / std::sqrt(squares);
}

}  // namespace tandem::test
