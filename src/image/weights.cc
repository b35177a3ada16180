#include "image/weights.h"

#include <algorithm>
#include <cmath>

#include "base/strings.h"
#include "tandem/error.h"

namespace tandem::image {
namespace {

constexpr double kA = -0.5;  // the cubic's free parameter, in both references

double bilinear(double x) {
  x = std::fabs(x);
  return x < 1.0 ? 1.0 - x : 0.0;
}

double bicubic_pillow(double x) {
  x = std::fabs(x);
  if (x < 1.0) return ((kA + 2.0) * x - (kA + 3.0)) * x * x + 1;
  return x < 2.0 ? (((x - 5) * x + 8) * x - 4) * kA : 0.0;
}

// The same polynomial, rounded differently.
double bicubic_torch(double x) {
  x = std::fabs(x);
  if (x < 1.0) return ((kA + 2) * x - (kA + 3)) * x * x + 1;
  return x < 2.0 ? ((kA * x - 5 * kA) * x + 8 * kA) * x - 4 * kA : 0.0;
}

/// Windows and real weights of one axis; both references agree up to the last bit of the cubic.
class Windows {
 public:
  Windows(int in, int out, Resample resample, Arithmetic arithmetic) : in_(in), scale_(static_cast<double>(in) / out) {
    const double filter_scale = std::max(scale_, 1.0);
    support_ = (resample == Resample::bicubic ? 2.0 : 1.0) * filter_scale;
    inverse_ = 1.0 / filter_scale;
    filter_ = resample == Resample::bilinear     ? bilinear
              : arithmetic == Arithmetic::pillow ? bicubic_pillow
                                                 : bicubic_torch;
    taps_ = std::min(in, static_cast<int>(std::ceil(support_)) * 2 + 1);
  }

  int taps() const { return taps_; }

  /// Fills weights[0 … count) and returns {start, count}.
  std::pair<int, int> at(int output, double* weights) const {
    const double center = (output + 0.5) * scale_;
    const int start = std::max(0, static_cast<int>(center - support_ + 0.5));
    const int end = std::min(in_, static_cast<int>(center + support_ + 0.5));
    const int count = std::clamp(end - start, 0, taps_);
    double total = 0.0;
    for (int i = 0; i < count; ++i) {
      weights[i] = filter_((i + start - center + 0.5) * inverse_);
      total += weights[i];
    }
    for (int i = 0; i < count && total != 0.0; ++i) weights[i] /= total;
    return {start, count};
  }

 private:
  int in_;
  double scale_, support_, inverse_;
  double (*filter_)(double);
  int taps_;
};

int torch_precision(const Windows& windows, int out, std::vector<double>& scratch) {
  double largest = 0.0;
  for (int i = 0; i < out; ++i) {
    const auto [start, count] = windows.at(i, scratch.data());
    for (int k = 0; k < count; ++k) largest = std::max(largest, scratch[static_cast<std::size_t>(k)]);
  }
  int precision = 0;
  while (precision < 22 && static_cast<int>(0.5 + largest * (1 << (precision + 1))) < (1 << 15)) ++precision;
  return precision;
}

}  // namespace

int AxisWeights::source_begin() const noexcept {
  return *std::min_element(start.begin(), start.end());
}

int AxisWeights::source_end() const noexcept {
  int end = 0;
  for (std::size_t i = 0; i < start.size(); ++i) end = std::max(end, start[i] + count[i]);
  return end;
}

AxisWeights make_weights(int in, int out, int first, int outputs, Resample resample, Arithmetic arithmetic) {
  const Windows windows(in, out, resample, arithmetic);
  std::vector<double> real(static_cast<std::size_t>(windows.taps()));
  AxisWeights axis;
  axis.shift = arithmetic == Arithmetic::pillow ? 22 : torch_precision(windows, out, real);
  axis.taps = windows.taps();
  axis.start.resize(static_cast<std::size_t>(outputs));
  axis.count.resize(static_cast<std::size_t>(outputs));
  axis.weights.resize(static_cast<std::size_t>(outputs) * real.size());
  const double one = 1 << axis.shift;
  for (int i = 0; i < outputs; ++i) {
    const auto [start, count] = windows.at(first + i, real.data());
    axis.start[static_cast<std::size_t>(i)] = start;
    axis.count[static_cast<std::size_t>(i)] = count;
    std::int32_t* to = axis.weights.data() + static_cast<std::size_t>(i) * real.size();
    for (int k = 0; k < count; ++k) {
      const double w = real[static_cast<std::size_t>(k)] * one;
      to[k] = static_cast<std::int32_t>(w < 0 ? w - 0.5 : w + 0.5);
      if (std::abs(to[k]) >= 127 << 16) throw Error(Code::internal, cat("resize ", in, " to ", out, ": weight ", w));
    }
  }
  return axis;
}

}  // namespace tandem::image
