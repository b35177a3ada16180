// Operations that belong together, for backends that have them only one by one.
#include "backend/backend.h"

namespace tandem::backend {

void Backend::norm_linear(const NormLinearArgs& a) {
  layer_norm({a.x, a.gamma, a.beta, a.eps, a.normalized, a.precision, a.weight});
  linear({a.normalized, a.weight, a.bias, a.fn, {}, a.out, a.reader});
}

void Backend::norm_project(const NormProjectArgs& a) {
  layer_norm({a.x, a.gamma, a.beta, a.eps, {a.normalized, {}}});
  project({a.normalized, a.weight, a.normalize, a.out});
}

}  // namespace tandem::backend
