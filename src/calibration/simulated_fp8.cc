#include "calibration/simulated_fp8.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "calibration/ranges.h"
#include "tandem/error.h"
#include "tensor/e4m3.h"

namespace tandem::calibration {

using namespace backend;  // NOLINT: its argument structs, in every line

namespace {

class SimulatedWeight final : public PreparedWeight {
 public:
  SimulatedWeight(std::unique_ptr<PreparedWeight> from, float scale)
      : PreparedWeight(from->outputs(), from->inputs(), from->bytes(), DType::f8e4m3, "simulated", true),
        values(std::move(from)),
        input_scale(scale) {}
  const std::unique_ptr<PreparedWeight> values;
  const float input_scale;
};

const SimulatedWeight* simulated(const PreparedWeight* weight) {
  return dynamic_cast<const SimulatedWeight*>(weight);
}

/// to = from in E4M3; step 0: the largest magnitude becomes 448. Not a number where one is not finite.
void round_row(const float* from, std::int64_t count, float step, float* to) {
  float top = 0, poison = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    top = std::max(top, std::abs(from[i]));
    poison += from[i] * 0;
  }
  const bool any = top > kSmallestTop;
  const float inverse = step > 0 ? 1 / step : any ? kLargestE4m3 / top : 0;
  if (!(step > 0)) step = any ? top / kLargestE4m3 : 0;
  step += poison;
  for (std::int64_t i = 0; i < count; ++i) to[i] = round_to_e4m3(from[i] * inverse) * step;
}

}  // namespace

SimulatedFp8::SimulatedFp8(Backend& to) : ForwardingBackend(to) {
  if (to.stream() != nullptr) throw Error(Code::internal, "fp8 is simulated in the host's memory only");
}

Precision SimulatedFp8::resolve(Precision precision) const {
  if (precision != Precision::fp8) return to_.resolve(precision);
  to_.resolve(Precision::fp32);
  return precision;
}

std::unique_ptr<PreparedWeight> SimulatedFp8::prepare_linear(ConstView weight, Precision precision,
                                                             const WeightUse& use) {
  if (precision != Precision::fp8) return to_.prepare_linear(weight, precision, use);
  const Tensor rounded = host_tensor(DType::f32, {weight.rows(), weight.columns()});
  convert(weight, rounded.view());
  float* row = rounded.view().as<float>();
  for (std::int64_t n = 0; n < weight.rows(); ++n, row += weight.columns()) {
    round_row(row, weight.columns(), use.steps ? use.steps.as<float>()[n] : 0, row);
  }
  return std::make_unique<SimulatedWeight>(to_.prepare_linear(rounded.view(), Precision::fp32, {}), use.input_scale);
}

std::unique_ptr<PreparedWeight> SimulatedFp8::prepare_norm_linear(ConstView weight, ConstView bias, ConstView gamma,
                                                                  ConstView beta, Precision precision,
                                                                  const WeightUse& use) {
  if (precision == Precision::fp8) return prepare_linear(weight, precision, use);
  return to_.prepare_norm_linear(weight, bias, gamma, beta, precision, use);
}

void SimulatedFp8::layer_norm(const LayerNormArgs& a) {
  LayerNormArgs b = a;
  b.precision = plain(a.precision), b.reader = nullptr;
  to_.layer_norm(b);
}

void SimulatedFp8::linear(const LinearArgs& a) {
  LinearArgs b = a;
  b.reader = nullptr;
  const SimulatedWeight* weight = simulated(a.weight);
  if (weight == nullptr) return to_.linear(b);
  const ConstView x = a.x.view;
  if (x.dtype != DType::f32) throw Error(Code::internal, "fp8 is simulated on float32 activations only");
  const std::size_t bytes = static_cast<std::size_t>(x.rows() * x.columns()) * sizeof(float);
  if (rows_.bytes() < bytes) rows_ = to_.allocate(bytes);
  const View rounded(rows_.data(), DType::f32, {x.rows(), x.columns()});
  for (std::int64_t r = 0; r < x.rows(); ++r) {
    round_row(x.row_range(r, 1).as<float>(), x.columns(), weight->input_scale, rounded.row_range(r, 1).as<float>());
  }
  b.x = ConstOperand(rounded), b.weight = weight->values.get();
  to_.linear(b);
}

void SimulatedFp8::norm_linear(const NormLinearArgs& a) {
  if (simulated(a.weight) != nullptr) return Backend::norm_linear(a);  // layer_norm() and linear()
  NormLinearArgs b = a;
  b.precision = plain(a.precision), b.reader = nullptr;
  to_.norm_linear(b);
}

void SimulatedFp8::attention(const AttentionArgs& a) {
  AttentionArgs b = a;
  b.precision = plain(a.precision), b.reader = nullptr;
  to_.attention(b);
}

}  // namespace tandem::calibration
