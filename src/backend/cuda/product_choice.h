// Which kernel computes a linear layer: cuBLASLt's, or one of this folder's own.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "backend/cuda/matmul.h"
#include "backend/cuda/matmul_one_wave.h"

namespace tandem::backend::cuda {

struct ProductChoice {
  enum class Kernel : std::uint8_t { library, fused, one_wave };
  Kernel kernel = Kernel::library;  ///< library: by Matmul, and the activation behind it
  OneWavePlan plan;                 ///< of one_wave
};

/// "library", "fused", "wave-64x96x2".
std::string to_string(const ProductChoice& choice);

/// Measured choices, one a bucket of shapes.
class ProductChoices {
 public:
  /// Bucket of rows, outputs, inputs, and the kind of call: types, bias, residual, activation.
  using Shape = std::array<std::int64_t, 4>;
  static Shape shape_of(const MatmulCall& call, ActivationFn fn);

  /// Null where nothing was measured.
  const ProductChoice* find(const Shape& shape) const;
  void set(const Shape& shape, const ProductChoice& choice) { tuned_[shape] = choice; }
  void clear() { tuned_.clear(); }
  /// True once a shape.
  bool is_new(const Shape& shape);

  /// A line a shape.
  std::string text() const;
  /// Takes what text() gave; other lines are left out. Returns how many shapes it took.
  int take(const std::string& text);

 private:
  std::map<Shape, ProductChoice> tuned_;
  std::set<Shape> met_;
};

}  // namespace tandem::backend::cuda
