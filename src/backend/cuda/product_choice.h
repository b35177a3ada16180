// Which kernel computes a linear layer: cuBLASLt's, or one of this folder's own.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "backend/cuda/matmul.h"
#include "backend/cuda/matmul_one_wave.h"

namespace tandem::backend::cuda {

struct ProductChoice {
  enum class Kernel : std::uint8_t { library, one_wave, wide, narrow };
  /// library: by Matmul, and the activation behind it; narrow: as wide, in eight bits, with half as many columns.
  Kernel kernel = Kernel::library;
  OneWavePlan plan;  ///< of one_wave
};

/// "library", "wide", "narrow", "wave-64x96x2".
std::string to_string(const ProductChoice& choice);

/// Measured choices, one a bucket of shapes.
class ProductChoices {
 public:
  /// product_shape(), and the activation as well, and whether x is normalised first.
  static ProductShape shape_of(const MatmulCall& call, ActivationFn fn, bool normed);

  /// Null where nothing was measured.
  const ProductChoice* find(const ProductShape& shape) const;
  void set(const ProductShape& shape, const ProductChoice& choice) { tuned_[shape] = choice; }
  void clear() { tuned_.clear(); }
  /// True once a shape.
  bool is_new(const ProductShape& shape);

  /// A line a shape.
  std::string text() const;
  /// Takes what text() gave; other lines are left out. Returns how many shapes it took.
  int take(const std::string& text);

 private:
  std::map<ProductShape, ProductChoice> tuned_;
  std::set<ProductShape> met_;
};

}  // namespace tandem::backend::cuda
