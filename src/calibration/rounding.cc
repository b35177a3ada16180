#include "calibration/rounding.h"

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <numeric>

#include "calibration/ranges.h"
#include "tandem/error.h"

namespace tandem::calibration {
namespace {

using Eigen::Index;
template <class T>
using Rows = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr double kDamping = 0.01;  // of the mean of the diagonal, as in GPTQ
constexpr Index kBlock = 64;       // inputs whose errors are passed on one by one

Eigen::Map<const Rows<float>> matrix(std::span<const float> values, std::size_t rows) {
  return {values.data(), static_cast<Index>(rows), static_cast<Index>(rows == 0 ? 0 : values.size() / rows)};
}

std::vector<float> steps_of(Precision precision, std::span<const float> weight, std::size_t outputs) {
  std::vector<float> steps;
  const std::size_t inputs = weight.size() / outputs;
  for (std::size_t n = 0; n < outputs; ++n) steps.push_back(step_of(precision, weight.subspan(n * inputs, inputs)));
  return steps;
}

float rounded(Precision precision, double value, float step) {
  return step > 0 ? in_eight_bits(precision, static_cast<float>(value), step) : 0;
}

}  // namespace

Rounding round_to_nearest(Precision precision, std::span<const float> weight, std::size_t outputs) {
  Rounding out{{weight.begin(), weight.end()}, steps_of(precision, weight, outputs)};
  const std::size_t inputs = weight.size() / outputs;
  for (std::size_t i = 0; i < out.values.size(); ++i) {
    out.values[i] = rounded(precision, out.values[i], out.steps[i / inputs]);
  }
  return out;
}

Rounding round_for_inputs(Precision precision, std::span<const float> weight, std::size_t outputs,
                          std::span<const float> gram) {
  const auto n = static_cast<Index>(outputs), k = static_cast<Index>(weight.size() / outputs);
  const auto g = matrix(gram, static_cast<std::size_t>(k));
  const double damping = kDamping * g.diagonal().cast<double>().mean();
  if (!std::isfinite(damping)) throw Error(Code::internal, "a layer's inputs are not all finite");
  // The last is the first to be rounded: so a lower triangle, which is what Cholesky's method gives, does R's work.
  std::vector<Index> order(static_cast<std::size_t>(k));
  std::iota(order.begin(), order.end(), Index{0});
  std::ranges::stable_sort(order, {}, [&](Index i) { return g(i, i); });
  Eigen::MatrixXd h(k, k), w(n, k), error = Eigen::MatrixXd::Zero(n, k);
  const auto own = matrix(weight, outputs);
  for (Index j = 0; j < k; ++j) {
    const Index from = order[static_cast<std::size_t>(j)];
    for (Index i = j; i < k; ++i) h(i, j) = g(order[static_cast<std::size_t>(i)], from);
    h(j, j) += damping > 0 ? damping : 1;
    w.col(j) = own.col(from).cast<double>();
  }
  Eigen::LLT<Eigen::Ref<Eigen::MatrixXd>> cholesky(h);  // in place: its lower triangle
  if (cholesky.info() != Eigen::Success)
    throw Error(Code::internal, "the squares of a layer's inputs have no sums that could be theirs");

  Rounding out{std::vector<float>(weight.size()), steps_of(precision, weight, outputs)};
  Eigen::MatrixXd passed(n, kBlock);
  for (Index end = k; end > 0; end -= std::min(end, kBlock)) {
    const Index begin = std::max<Index>(0, end - kBlock), size = end - begin;
    passed.leftCols(size).noalias() = error.rightCols(k - end) * h.block(end, begin, k - end, size);
    for (Index j = end - 1; j >= begin; --j) {
      const Index after = end - 1 - j;
      Eigen::VectorXd target = passed.col(j - begin);
      target.noalias() += error.middleCols(j + 1, after) * h.col(j).segment(j + 1, after);
      target = w.col(j) + target / h(j, j);
      const Index to = order[static_cast<std::size_t>(j)];
      for (Index i = 0; i < n; ++i) {
        const float value = rounded(precision, target(i), out.steps[static_cast<std::size_t>(i)]);
        out.values[static_cast<std::size_t>(i * k + to)] = value;
        error(i, j) = w(i, j) - value;
      }
    }
  }
  return out;
}

double output_error(std::span<const float> weight, std::span<const float> rounded, std::size_t outputs,
                    std::span<const float> rows) {
  const std::size_t inputs = weight.size() / outputs;
  const Rows<float> off = matrix(weight, outputs) - matrix(rounded, outputs);
  return (matrix(rows, rows.size() / inputs) * off.transpose()).cast<double>().squaredNorm();
}

void add_to_gram(std::span<const float> rows, std::size_t inputs, std::vector<float>& gram) {
  gram.resize(inputs * inputs);
  const auto k = static_cast<Index>(inputs);
  Eigen::Map<Eigen::MatrixXf> to(gram.data(), k, k);
  to.selfadjointView<Eigen::Lower>().rankUpdate(matrix(rows, rows.size() / inputs).transpose());
}

void complete_gram(std::vector<float>& gram, std::size_t inputs) {
  for (std::size_t column = 0; column < inputs; ++column) {
    for (std::size_t row = column + 1; row < inputs; ++row) {
      gram[row * inputs + column] = gram[column * inputs + row];  // stored by columns
    }
  }
}

}  // namespace tandem::calibration
