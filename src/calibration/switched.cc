#include "calibration/switched.h"

#include <utility>

#include "base/strings.h"
#include "tandem/error.h"

namespace tandem::calibration {

using namespace backend;  // NOLINT: its argument structs, in every line

Switched::Switched(Backend& to, const model::Model& model, const model::Model& other) : ForwardingBackend(to) {
  std::map<std::string, Product> others;
  for (auto& [weight, product] : products_of(other, to)) others[cat(product.layer, ' ', product.part)] = product;
  for (auto& [weight, product] : products_of(model, to)) {
    const auto found = others.find(cat(product.layer, ' ', product.part));
    if (found == others.end()) {
      throw Error(Code::internal, cat("the model to switch to has no ", product.layer));
    }
    pairs_[weight] = {product, found->second};
  }
}

const Product* Switched::instead(const PreparedWeight* weight) const {
  const auto found = pairs_.find(weight);
  return found != pairs_.end() && taken_.contains(found->second.own.layer) ? &found->second.other : nullptr;
}

const PreparedWeight* Switched::reader(const PreparedWeight* weight) const {
  const Product* product = instead(weight);
  return product != nullptr ? product->linear->weight.get() : weight;
}

void Switched::linear(const LinearArgs& a) {
  LinearArgs b = a;
  b.reader = reader(a.reader);
  if (const Product* product = instead(a.weight)) {
    b.weight = product->linear->weight.get();
    if (a.bias) b.bias = product->linear->bias.view();
  }
  to_.linear(b);
}

void Switched::norm_linear(const NormLinearArgs& a) {
  NormLinearArgs b = a;
  b.reader = reader(a.reader);
  if (const Product* product = instead(a.weight)) {
    b.weight = product->linear->weight.get();
    if (a.bias) b.bias = product->linear->bias.view();
    // The factors of a migration are folded into the norm in front of the layer that has them.
    b.gamma = product->norm->gamma.view(), b.beta = product->norm->beta.view();
  }
  to_.norm_linear(b);
}

void Switched::attention(const AttentionArgs& a) {
  AttentionArgs b = a;
  b.reader = reader(a.reader);
  to_.attention(b);
}

}  // namespace tandem::calibration
