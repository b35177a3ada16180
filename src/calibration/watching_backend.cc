#include "calibration/watching_backend.h"

#include <utility>

#include "verify/probe.h"

namespace tandem::calibration {

using namespace backend;  // NOLINT: its argument structs, in every line

const Product* WatchingBackend::wanted(const PreparedWeight* weight, std::int64_t rows) const {
  const auto found = products_.find(weight);
  return found != products_.end() && rows > 0 && wants(found->second) ? &found->second : nullptr;
}

void WatchingBackend::linear(const LinearArgs& a) {
  LinearArgs plain = a;
  plain.reader = nullptr;
  if (const Product* product = wanted(a.weight, a.x.view.rows())) {
    note(*product, verify::fetch(to_, a.x.view), a.x.view.rows(), a.out.view.columns());
  }
  to_.linear(plain);
}

void WatchingBackend::norm_linear(const NormLinearArgs& a) {
  NormLinearArgs plain = a;
  plain.reader = nullptr;
  if (const Product* product = wanted(a.weight, a.x.rows())) {
    // A backend may normalise inside of the product: here the rows are wanted by themselves.
    const std::int64_t rows = a.x.rows(), columns = a.x.columns();
    const DType type = a.normalized.view.dtype;
    const Buffer memory = to_.allocate(static_cast<std::size_t>(rows * columns) * size_of(type));
    const View normalized(memory.data(), type, {rows, columns});
    to_.layer_norm({a.x, a.gamma, a.beta, a.eps, {normalized, {}}, a.precision, nullptr});
    note(*product, verify::fetch(to_, normalized), rows, a.out.view.columns());
  }
  to_.norm_linear(plain);
}

void WatchingBackend::attention(const AttentionArgs& a) {
  AttentionArgs plain = a;
  plain.reader = nullptr;
  to_.attention(plain);
}

}  // namespace tandem::calibration
