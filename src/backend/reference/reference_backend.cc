#include "backend/reference/reference_backend.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/strings.h"
#include "tensor/e4m3.h"

namespace tandem::backend {
namespace {

/// The weight as float32 rows, for patch embedding already in pixel order with its bias.
class PlainWeight final : public PreparedWeight {
 public:
  PlainWeight(std::int64_t outputs, std::int64_t inputs)
      : PreparedWeight(outputs, inputs, static_cast<std::size_t>(outputs * inputs) * sizeof(float)),
        values(static_cast<std::size_t>(outputs * inputs)),
        bias(static_cast<std::size_t>(outputs), 0.0) {}
  std::vector<float> values;  ///< in int8: whole numbers within [-127, 127]; in fp8: E4M3's
  std::vector<double> bias;
  std::vector<float> scales;  ///< in int8 and fp8: of every output; else none
  float input_scale = 0;      ///< in int8 and fp8: one step of all inputs; 0: each row has its own
  bool fp8 = false;
  const float* row(std::int64_t n) const { return values.data() + n * inputs(); }
};

const PlainWeight& plain(const PreparedWeight* w) {
  return static_cast<const PlainWeight&>(*w);
}

double activate(double x, ActivationFn fn) {
  switch (fn) {
    case ActivationFn::none: return x;
    case ActivationFn::quick_gelu: return x / (1 + std::exp(-1.702 * x));
    case ActivationFn::gelu_erf: return 0.5 * x * (1 + std::erf(x * M_SQRT1_2));
    case ActivationFn::gelu_tanh: return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  }
  return x;
}

double dot(const float* a, const float* b, std::int64_t n) {
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

/// The magnitude that a row's largest becomes in int8, and what counts as a row of zeros.
constexpr float kLargestInt8 = 127, kSmallestTop = 1e-30F;

/// values[i] / step to the nearest whole number, even ones first, within [-127, 127], or to the nearest E4M3 number.
/// step 0: the largest magnitude becomes 127, or 448. Returns the step: not a number where a value is not finite.
float quantise(float* values, std::int64_t n, bool fp8, float step = 0) {
  const float largest = fp8 ? kLargestE4m3 : kLargestInt8;
  float top = 0;
  bool finite = true;
  for (std::int64_t i = 0; i < n; ++i) {
    finite = finite && std::isfinite(values[i]);
    top = std::max(top, std::abs(values[i]));
  }
  const bool any = top > kSmallestTop;
  const float inverse = step > 0 ? 1 / step : any ? largest / top : 0;
  if (!(step > 0)) step = any ? top / largest : 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const float scaled = values[i] * inverse;
    values[i] = fp8 ? round_to_e4m3(scaled) : std::clamp(std::nearbyint(scaled), -largest, largest);
  }
  return finite ? step : NAN;
}

std::int64_t first_row(const Sequences& s, std::int64_t i) {
  return s.offsets != nullptr ? s.offsets[i] : i * s.longest;
}

class ReferenceBackend final : public Backend {
 public:
  DeviceId device() const override { return {DeviceId::Kind::reference, 0}; }
  std::string device_name() const override { return "plain loops"; }
  std::string isa() const override { return "plain"; }

  Precision resolve(Precision p) const override {
    if (p == Precision::automatic || p == Precision::fp32) return Precision::fp32;
    if (p == Precision::int8 || p == Precision::fp8) return p;
    throw Error(Code::unsupported, cat("the reference backend computes in fp32, int8 and fp8, not ", to_string(p)));
  }
  ComputeTypes types(Precision) const override { return {DType::f32, DType::f32}; }
  Precision kept(Precision) const override { return Precision::fp32; }

  Buffer allocate(std::size_t bytes) override { return allocate_host(bytes, 256); }
  void upload(const void* host, View to) override { std::memcpy(to.data, host, to.bytes()); }
  void download(ConstView from, void* host) override { std::memcpy(host, from.data, from.bytes()); }
  void synchronize() override {}

  std::unique_ptr<PreparedWeight> prepare_linear(ConstView weight, Precision p, const WeightUse& use) override {
    auto w = std::make_unique<PlainWeight>(weight.rows(), weight.columns());
    convert(weight, {reinterpret_cast<std::byte*>(w->values.data()), DType::f32, {weight.rows(), weight.columns()}});
    if (p != Precision::int8 && p != Precision::fp8) return w;
    w->input_scale = use.input_scale, w->fp8 = p == Precision::fp8;
    for (std::int64_t n = 0; n < weight.rows(); ++n) {
      const float step = use.steps ? use.steps.as<float>()[n] : 0;
      w->scales.push_back(quantise(w->values.data() + n * weight.columns(), weight.columns(), w->fp8, step));
    }
    return w;
  }
  std::unique_ptr<PreparedWeight> prepare_projection(ConstView weight) override {
    return prepare_linear(weight, Precision::fp32, {});
  }

  // W (p * rescale - mean) / std = (W * rescale / std) p - sum(W * mean / std), in the order of the pixels: y, x,
  // channel.
  std::unique_ptr<PreparedWeight> prepare_patch_embed(ConstView weight, ConstView bias, const float mean[3],
                                                      const float std[3], float rescale, Precision) override {
    const auto width = weight.shape[0];
    const auto area = weight.shape[2] * weight.shape[3];
    const Tensor published = prepare_vector(weight);
    auto w = std::make_unique<PlainWeight>(width, 3 * area);
    for (std::int64_t n = 0; n < width; ++n) {
      double offset = bias ? prepare_vector(bias).view().as<float>()[n] : 0.0F;
      for (std::int64_t c = 0; c < 3; ++c) {
        for (std::int64_t i = 0; i < area; ++i) {
          const double value = published.view().as<float>()[(n * 3 + c) * area + i];
          w->values[static_cast<std::size_t>(n * 3 * area + i * 3 + c)] = static_cast<float>(value * rescale / std[c]);
          offset -= value * mean[c] / std[c];
        }
      }
      w->bias[static_cast<std::size_t>(n)] = offset;
    }
    return w;
  }
  Tensor prepare_vector(ConstView vector) override {
    Tensor out = host_tensor(DType::f32, vector.shape);
    convert(vector, out.view());
    return out;
  }
  Tensor prepare_table(ConstView table, Precision) override { return prepare_vector(table); }

  std::size_t patch_embed_scratch(std::int64_t, int, int, std::int64_t, Precision) const override { return 0; }

  void patch_embed(const PatchEmbedArgs& a) override {
    check(a);
    const auto& w = plain(a.weight);
    const std::int64_t side = a.pixels.shape[1], grid = side / a.patch, width = w.outputs();
    const std::int64_t first = a.class_embedding ? 1 : 0, tokens = grid * grid + first;
    std::vector<float> patch(static_cast<std::size_t>(w.inputs()));
    for (std::int64_t b = 0; b < a.pixels.shape[0]; ++b) {
      for (std::int64_t t = 0; t < tokens; ++t) {
        float* out = a.out.as<float>() + (b * tokens + t) * a.out.stride;
        const float* position = a.position.as<float>() + t * width;
        if (t < first) {
          for (std::int64_t n = 0; n < width; ++n) out[n] = a.class_embedding.as<float>()[n] + position[n];
          continue;
        }
        const std::int64_t top = (t - first) / grid * a.patch, left = (t - first) % grid * a.patch;
        for (std::int64_t y = 0; y < a.patch; ++y) {
          const auto* row = a.pixels.as<std::uint8_t>() + ((b * side + top + y) * side + left) * 3;
          for (std::int64_t i = 0; i < a.patch * 3; ++i) patch[static_cast<std::size_t>(y * a.patch * 3 + i)] = row[i];
        }
        for (std::int64_t n = 0; n < width; ++n) {
          const double value = dot(patch.data(), w.row(n), w.inputs()) + w.bias[static_cast<std::size_t>(n)];
          out[n] = static_cast<float>(value + position[n]);
        }
      }
    }
  }

  void layer_norm(const LayerNormArgs& a) override {
    check(a);
    const std::int64_t width = a.x.columns();
    for (std::int64_t r = 0; r < a.x.rows(); ++r) {
      const float* x = a.x.as<float>() + r * a.x.stride;
      float* out = a.out.view.as<float>() + r * a.out.view.stride;
      double mean = 0, variance = 0;
      for (std::int64_t i = 0; i < width; ++i) mean += x[i];
      mean /= static_cast<double>(width);
      for (std::int64_t i = 0; i < width; ++i) variance += (x[i] - mean) * (x[i] - mean);
      const double scale = 1 / std::sqrt(variance / static_cast<double>(width) + a.eps);
      for (std::int64_t i = 0; i < width; ++i) {
        out[i] = static_cast<float>((x[i] - mean) * scale * a.gamma.as<float>()[i] + a.beta.as<float>()[i]);
      }
    }
  }

  void linear(const LinearArgs& a) override {
    check(a);
    const auto& w = plain(a.weight);
    for (std::int64_t r = 0; r < a.x.view.rows(); ++r) {
      const float* x = a.x.view.as<float>() + r * a.x.view.stride;
      float* out = a.out.view.as<float>() + r * a.out.view.stride;
      std::vector<float> whole;  // of int8 and fp8: what the row becomes
      float step = 1;
      if (!w.scales.empty()) {
        whole.assign(x, x + w.inputs());
        step = quantise(whole.data(), w.inputs(), w.fp8, w.input_scale);
        x = whole.data();
      }
      for (std::int64_t n = 0; n < w.outputs(); ++n) {
        double value = dot(x, w.row(n), w.inputs());  // of numbers with so few digits: exact
        if (!w.scales.empty()) value *= static_cast<double>(step) * w.scales[static_cast<std::size_t>(n)];
        value += a.bias ? a.bias.as<float>()[n] : 0.0F;
        value = activate(value, a.fn);
        if (a.residual) value += a.residual.as<float>()[r * a.residual.stride + n];
        out[n] = static_cast<float>(value);
      }
    }
  }

  void attention(const AttentionArgs& a) override {
    check(a);
    const std::int64_t prefix = a.prefix_k ? a.prefix_k.rows() : 0;
    const double scale = 1 / std::sqrt(static_cast<double>(a.head_dim));
    for (std::int64_t s = 0; s < a.queries.count; ++s) {
      const std::int64_t q0 = first_row(a.queries, s), q1 = first_row(a.queries, s + 1);
      const std::int64_t k0 = first_row(a.keys, s), k1 = first_row(a.keys, s + 1);
      for (int h = 0; h < a.heads; ++h) {
        for (std::int64_t q = q0; q < q1; ++q) attend(a, h, q, k0, a.causal ? k0 + (q - q0) + 1 : k1, prefix, scale);
      }
    }
  }

  void embed_tokens(const EmbedTokensArgs& a) override {
    check(a);
    for (std::int64_t r = 0; r < a.out.rows(); ++r) {
      const float* token = a.table.as<float>() + a.ids[r] * a.table.stride;
      const float* position = a.position.as<float>() + a.positions[r] * a.position.stride;
      float* out = a.out.as<float>() + r * a.out.stride;
      for (std::int64_t i = 0; i < a.out.columns(); ++i) out[i] = token[i] + position[i];
    }
  }

  void select_rows(const SelectRowsArgs& a) override {
    check(a);
    for (std::int64_t r = 0; r < a.out.rows(); ++r) {
      const std::int64_t from = a.rows != nullptr ? a.rows[r] : r * a.every;
      const View out = a.out.row_range(r, 1);
      std::memcpy(out.data, a.x.row_range(from, 1).data, out.bytes());
    }
  }

  void project(const ProjectArgs& a) override {
    check(a);
    for (std::int64_t r = 0; r < a.out.rows(); ++r) {
      const float* x = a.x.as<float>() + r * a.x.stride;
      float* out = a.out.as<float>() + r * a.out.stride;
      double squares = 0;
      std::vector<double> values(static_cast<std::size_t>(a.out.columns()));
      for (std::size_t n = 0; n < values.size(); ++n) {
        values[n] =
            a.weight != nullptr ? dot(x, plain(a.weight).row(static_cast<std::int64_t>(n)), a.weight->inputs()) : x[n];
        squares += values[n] * values[n];
      }
      const double scale = a.normalize ? 1 / std::sqrt(squares) : 1;
      for (std::size_t n = 0; n < values.size(); ++n) out[n] = static_cast<float>(values[n] * scale);
    }
  }

  void similarity(const SimilarityArgs& a) override {
    check(a);
    for (std::int64_t m = 0; m < a.a.rows(); ++m) {
      for (std::int64_t n = 0; n < a.b.rows(); ++n) {
        const double value = dot(a.a.as<float>() + m * a.a.stride, a.b.as<float>() + n * a.b.stride, a.a.columns());
        a.out.as<float>()[m * a.out.stride + n] = static_cast<float>(a.scale * value);
      }
    }
  }

 private:
  /// One query row of one head over the prefix and the key rows [first, last).
  static void attend(const AttentionArgs& a, int head, std::int64_t query, std::int64_t first, std::int64_t last,
                     std::int64_t prefix, double scale) {
    const std::int64_t column = static_cast<std::int64_t>(head) * a.head_dim;
    const auto key_row = [&](const ConstView& before, const ConstView& own, std::int64_t i) {
      return i < prefix ? before.as<float>() + i * before.stride + column
                        : own.as<float>() + (first + i - prefix) * own.stride + column;
    };
    std::vector<double> weights(static_cast<std::size_t>(prefix + last - first));
    const float* q = a.q.as<float>() + query * a.q.stride + column;
    double largest = -INFINITY, sum = 0;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      weights[i] = scale * dot(q, key_row(a.prefix_k, a.k, static_cast<std::int64_t>(i)), a.head_dim);
      largest = std::max(largest, weights[i]);
    }
    for (double& w : weights) sum += w = std::exp(w - largest);
    float* out = a.out.as<float>() + query * a.out.stride + column;
    for (int d = 0; d < a.head_dim; ++d) {
      double value = 0;
      for (std::size_t i = 0; i < weights.size(); ++i) {
        value += weights[i] * key_row(a.prefix_v, a.v, static_cast<std::int64_t>(i))[d];
      }
      out[d] = static_cast<float>(value / sum);
    }
  }
};

}  // namespace

std::unique_ptr<Backend> make_reference_backend() {
  return std::make_unique<ReferenceBackend>();
}

}  // namespace tandem::backend
