#include "backend/cuda/product_choice.h"

#include <cstdio>
#include <optional>
#include <sstream>

#include "base/strings.h"

namespace tandem::backend::cuda {
namespace {

using Kernel = ProductChoice::Kernel;

/// Of this folder's kernels: raised when one of them has become faster, so that what was measured before is not taken.
constexpr int kVersion = 1;
/// Texts have any number of rows: shapes that no longer come must not pile up.
constexpr std::size_t kMostMet = 4096;

std::optional<ProductChoice> parse(const std::string& word) {
  if (word == "library") return ProductChoice{};
  if (word == "fused") return ProductChoice{Kernel::fused, {}};
  OneWavePlan plan;
  char end = 0;
  if (std::sscanf(word.c_str(), "wave-%dx%dx%d%c", &plan.rows, &plan.columns, &plan.parts, &end) != 3) return {};
  return ProductChoice{Kernel::one_wave, plan};  // whether there is such a plan is asked when it is wanted
}

}  // namespace

std::string to_string(const ProductChoice& c) {
  switch (c.kernel) {
    case Kernel::library: break;
    case Kernel::fused: return "fused";
    case Kernel::one_wave: return cat("wave-", c.plan.rows, 'x', c.plan.columns, 'x', c.plan.parts);
  }
  return "library";
}

ProductChoices::Shape ProductChoices::shape_of(const MatmulCall& m, ActivationFn fn) {
  const std::int64_t kind = static_cast<std::int64_t>(fn) * 512 + static_cast<std::int64_t>(m.in) * 64 +
                            static_cast<std::int64_t>(m.type) * 8 + (m.residual != nullptr ? 4 : 0) +
                            (m.bias != nullptr ? 2 : 0) + (m.tf32 ? 1 : 0);
  return {row_bucket(m.rows), m.outputs, m.inputs, kind};
}

const ProductChoice* ProductChoices::find(const Shape& shape) const {
  const auto found = tuned_.find(shape);
  return found == tuned_.end() ? nullptr : &found->second;
}

bool ProductChoices::is_new(const Shape& shape) {
  if (met_.size() >= kMostMet) met_.clear();
  return met_.insert(shape).second;
}

std::string ProductChoices::text() const {
  std::string out;
  for (const auto& [shape, choice] : tuned_) {
    out += cat("product ", kVersion);
    for (const std::int64_t n : shape) out += cat(' ', n);
    out += cat(' ', to_string(choice), '\n');
  }
  return out;
}

int ProductChoices::take(const std::string& text) {
  std::istringstream lines(text);
  int taken = 0;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string name, word;
    int version = 0;
    Shape shape{};
    words >> name >> version;
    for (std::int64_t& n : shape) words >> n;
    words >> word;
    if (!words || name != "product" || version != kVersion) continue;
    const auto choice = parse(word);
    if (!choice) continue;
    set(shape, *choice);
    ++taken;
  }
  return taken;
}

}  // namespace tandem::backend::cuda
