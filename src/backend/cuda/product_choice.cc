#include "backend/cuda/product_choice.h"

#include <cstdio>
#include <optional>
#include <string_view>

#include "base/strings.h"

namespace tandem::backend::cuda {
namespace {

using Kernel = ProductChoice::Kernel;

/// Of this folder's kernels: raised when one of them has become faster, so that what was measured before is not taken.
constexpr std::size_t kVersion = 1;
constexpr std::string_view kName = "product";
/// Texts have any number of rows: shapes that no longer come must not pile up.
constexpr std::size_t kMostMet = 4096;

std::optional<ProductChoice> parse(const std::string& word) {
  if (word == "library") return ProductChoice{};
  if (word == "wide") return ProductChoice{Kernel::wide, {}};
  if (word == "narrow") return ProductChoice{Kernel::narrow, {}};
  OneWavePlan plan;
  char end = 0;
  if (std::sscanf(word.c_str(), "wave-%dx%dx%d%c", &plan.rows, &plan.columns, &plan.parts, &end) != 3) return {};
  return ProductChoice{Kernel::one_wave, plan};  // whether there is such a plan is asked when it is wanted
}

}  // namespace

std::string to_string(const ProductChoice& c) {
  switch (c.kernel) {
    case Kernel::library: break;
    case Kernel::wide: return "wide";
    case Kernel::narrow: return "narrow";
    case Kernel::one_wave: return cat("wave-", c.plan.rows, 'x', c.plan.columns, 'x', c.plan.parts);
  }
  return "library";
}

ProductShape ProductChoices::shape_of(const MatmulCall& m, ActivationFn fn, bool normed) {
  ProductShape shape = product_shape(m);
  shape.back() += static_cast<std::int64_t>(fn) * 512 + (normed ? 4096 : 0);
  return shape;
}

const ProductChoice* ProductChoices::find(const ProductShape& shape) const {
  const auto found = tuned_.find(shape);
  return found == tuned_.end() ? nullptr : &found->second;
}

bool ProductChoices::is_new(const ProductShape& shape) {
  if (met_.size() >= kMostMet) met_.clear();
  return met_.insert(shape).second;
}

std::string ProductChoices::text() const {
  std::string out;
  for (const auto& [shape, choice] : tuned_) out += tuned_line(kName, kVersion, shape, to_string(choice));
  return out;
}

int ProductChoices::take(const std::string& text) {
  return take_tuned_lines(text, kName, kVersion, [&](const ProductShape& shape, const std::string& word) {
    const auto choice = parse(word);
    if (choice) set(shape, *choice);
    return choice.has_value();
  });
}

}  // namespace tandem::backend::cuda
