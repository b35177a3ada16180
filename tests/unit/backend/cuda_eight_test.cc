// E4M3 on the CUDA backend: what is stored against rounding on the host, products against the reference on what is
// stored, every kernel by name.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/strings.h"
#include "unit/backend/cuda_support.h"
#include "unit/backend/e4m3.h"

namespace tandem::backend::test {
namespace {

using tandem::test::Tolerance;

class CudaEight : public CudaTest {
 protected:
  struct Size {
    std::int64_t rows, inputs, outputs;
  };
  enum class Residual { none, in_place, apart };
  using Values = std::vector<float>;

  /// Rows of `m` as they are once quantised with a scale a row.
  static void quantize(Matrix& m) {
    for (std::int64_t r = 0; r < m.rows(); ++r) {
      float most = 0;
      for (std::int64_t c = 0; c < m.columns(); ++c) most = std::max(most, std::abs(m.at(r, c)));
      const float scale = most > 0 ? most * (1 / kLargestE4m3) : 1, inverse = most > 0 ? kLargestE4m3 / most : 1;
      for (std::int64_t c = 0; c < m.columns(); ++c) m.at(r, c) = nearest_e4m3(m.at(r, c) * inverse) * scale;
    }
  }
  /// A float32 matrix for the reference alone.
  static std::unique_ptr<Matrix> quantized(Matrix& from) {
    auto out = std::make_unique<Matrix>(DType::f32, from.rows(), from.columns());
    for (std::int64_t r = 0; r < from.rows(); ++r) {
      for (std::int64_t c = 0; c < from.columns(); ++c) out->at(r, c) = from.at(r, c);
    }
    quantize(*out);
    return out;
  }
  std::unique_ptr<PreparedWeight> truth_of(Matrix& weight) {
    return reference->prepare_linear(quantized(weight)->reference(), Precision::fp32);
  }
  /// Of sums of order one: f16's rounding, twice, and tensor cores that keep some 14 bits of a sum of products of 32.
  static Tolerance tolerance(std::int64_t inputs) {
    const float e = 0x1p-8F + static_cast<float>(inputs) * 0x1p-17F;
    return {e, 0x1p-8F};
  }

  /// Which kernel computes a shape from now on: "wide", "narrow", "library", "wave-64x96x2".
  void force(Size s, ActivationFn fn, bool residual, bool bias, DType out, const std::string& kernel) {
    const int kind =
        3 * 64 + static_cast<int>(out) * 8 + (residual ? 4 : 0) + (bias ? 2 : 0) + static_cast<int>(fn) * 512;
    std::int64_t rows = s.rows;
    if (rows > 256) {
      std::int64_t power = 256;
      while (power * 2 < rows) power *= 2;
      rows = (rows + power / 16 - 1) / (power / 16) * (power / 16);
    }
    ASSERT_EQ(cuda->take_tuned(cat("product 1 ", rows, ' ', s.outputs, ' ', s.inputs, ' ', kind, ' ', kernel, '\n')),
              1);
  }

  /// The reference takes a nanosecond and more a term: of what would take it longer than some 30 ms, rows this far
  /// apart are looked at. Odd, so that they lie everywhere in tiles.
  static std::int64_t rows_apart(Size s) {
    const std::int64_t most = std::max<std::int64_t>(8, (std::int64_t{1} << 24) / (s.inputs * s.outputs));
    return s.rows <= most ? 1 : ((s.rows + most - 1) / most) | 1;
  }
  void linear_by_reference(const LinearArgs& a, Size s) { linear_of_some_rows(*reference, a, rows_apart(s)); }

  void compare(Size s, ActivationFn fn, Residual residual, bool with_bias, std::int64_t slack = 0,
               const std::string& kernel = "") {
    if (!kernel.empty()) force(s, fn, residual != Residual::none, with_bias, DType::f16, kernel);
    DeviceMatrix x(*cuda, DType::f16, s.rows, s.inputs, s.inputs + slack), w(*cuda, DType::f32, s.outputs, s.inputs);
    DeviceMatrix b(*cuda, DType::f32, 1, s.outputs), r(*cuda, DType::f16, s.rows, s.outputs, s.outputs + 2 * slack);
    DeviceMatrix out(*cuda, DType::f16, s.rows, s.outputs, s.outputs + slack);
    x.fill(1), w.fill(2, 1 / std::sqrt(static_cast<float>(s.inputs))), b.fill(3), r.fill(4), out.fill(5);
    const auto prepared = cuda->prepare_linear(w.host(), GetParam());
    ASSERT_TRUE(prepared->has_scales());
    const auto rows = quantized(x);
    const auto weight = truth_of(w);
    const Tensor bias = cuda->prepare_vector(b.host_vector());
    LinearArgs a;
    a.fn = fn;
    a.x = x.view(), a.weight = prepared.get(), a.out.view = out.view();
    if (with_bias) a.bias = bias.view();
    if (residual != Residual::none) a.residual = residual == Residual::apart ? r.view() : out.view();
    cuda->linear(a);
    a.x = rows->reference(), a.weight = weight.get(), a.out.view = out.reference();
    if (with_bias) a.bias = b.reference_vector();
    if (residual != Residual::none) a.residual = residual == Residual::apart ? r.reference() : out.reference();
    linear_by_reference(a, s);
    expect_close(out, tolerance(s.inputs),
                 cat(s.rows, " x ", s.inputs, " x ", s.outputs, ", fn ", static_cast<int>(fn), ", residual ",
                     static_cast<int>(residual), " ", kernel),
                 rows_apart(s));
  }

  Values floats(ConstView v) {
    std::vector<std::uint16_t> stored(static_cast<std::size_t>(v.shape.elements()));
    cuda->download({v.data, v.dtype, v.shape}, stored.data());
    Values out(stored.size());
    std::transform(stored.begin(), stored.end(), out.begin(), half_to_float);
    return out;
  }
  /// The bytes of a packed sixteen-bit matrix.
  std::vector<std::uint8_t> bytes(ConstView v) {
    std::vector<std::uint8_t> out(v.bytes());
    cuda->download(v, out.data());
    return out;
  }
  Tensor upload(Matrix& m) { return cuda->prepare_vector(m.host_vector()); }
};

TEST_P(CudaEight, EveryActivationAndResidual) {
  for (const ActivationFn fn :
       {ActivationFn::none, ActivationFn::quick_gelu, ActivationFn::gelu_erf, ActivationFn::gelu_tanh}) {
    for (const Residual residual : {Residual::none, Residual::in_place, Residual::apart}) {
      compare({5, 64, 96}, fn, residual, true);
      compare({70, 128, 520}, fn, residual, residual == Residual::apart, 8);
      compare({700, 256, 1544}, fn, residual, true);
    }
  }
}

/// Tiles that the edges cut on either side, one tile of a block and several, inputs that end within a stage, as many
/// steps as a tile has parts and more.
TEST_P(CudaEight, ProductsOfManyTiles) {
  for (const std::string kernel : {"wide", "narrow"}) {
    for (const Size s : {Size{2, 400, 8},
                         {129, 512, 264},
                         {256, 1024, 256},
                         {257, 528, 136},
                         {700, 1040, 1160},
                         {2300, 400, 2056},
                         {300, 4096, 520}}) {
      compare(s, ActivationFn::none, Residual::none, true, 0, kernel);
      compare(s, ActivationFn::none, Residual::in_place, true, 0, kernel);
      compare(s, ActivationFn::none, Residual::apart, false, 8, kernel);
      compare(s, ActivationFn::quick_gelu, Residual::none, true, 16, kernel);
      compare(s, ActivationFn::gelu_erf, Residual::apart, true, 0, kernel);
    }
  }
}

TEST_P(CudaEight, ProductsOfOneWave) {
  for (const Size s : {Size{1, 1024, 264},
                       {3, 1600, 72},
                       {10, 3072, 128},
                       {50, 1536, 200},
                       {64, 80, 64},
                       {65, 3008, 96},
                       {130, 528, 328},
                       {300, 208, 1000},
                       {577, 144, 2048},
                       {40, 16, 8}}) {
    compare(s, ActivationFn::none, Residual::none, true);
    compare(s, ActivationFn::none, Residual::in_place, true, 8);
    compare(s, ActivationFn::quick_gelu, Residual::apart, false);
    compare(s, ActivationFn::gelu_erf, Residual::none, true, 16);
  }
  for (const std::string kernel : {"wave-64x64x1", "wave-64x96x2", "wave-64x128x3", "wave-64x160x4", "wave-128x64x6",
                                   "wave-128x96x8", "wave-128x128x2", "wave-128x160x1"}) {
    compare({130, 1024, 328}, ActivationFn::none, Residual::in_place, true, 0, kernel);
  }
  compare({9000, 64, 512}, ActivationFn::none, Residual::in_place, true);  // in several waves, and in no other kernel
}

/// Where cuBLASLt has a kernel; where it has none another one computes.
TEST_P(CudaEight, ProductsOfTheLibrary) {
  for (const Size s : {Size{64, 128, 128}, {577, 1024, 1024}, {1300, 768, 1152}}) {
    compare(s, ActivationFn::none, Residual::none, true, 0, "library");
    compare(s, ActivationFn::none, Residual::in_place, true, 0, "library");
    compare(s, ActivationFn::none, Residual::apart, false, 16, "library");
  }
}

TEST_P(CudaEight, WeightsOfNoKernelStaySixteenBits) {
  DeviceMatrix w(*cuda, DType::f32, 24, 20);
  w.fill(1);
  EXPECT_FALSE(cuda->prepare_linear(w.host(), GetParam())->has_scales());
  EXPECT_EQ(cuda->kept(GetParam()), Precision::fp16);
}

/// Numbers that a scale from the largest magnitude would move: at most 20 steps each, of 448.
TEST_P(CudaEight, WeightsThatComeWithTheirStepsStayWhatTheyAre) {
  const Size s{40, 256, 96};
  DeviceMatrix x(*cuda, DType::f16, s.rows, s.inputs), w(*cuda, DType::f32, s.outputs, s.inputs);
  DeviceMatrix out(*cuda, DType::f16, s.rows, s.outputs);
  x.fill(1), w.fill(2, 5);
  std::vector<float> steps;
  for (std::int64_t n = 0; n < s.outputs; ++n) {
    steps.push_back(0.01F + 0.0001F * static_cast<float>(n));
    for (std::int64_t c = 0; c < s.inputs; ++c) w.at(n, c) = nearest_e4m3(w.at(n, c)) * steps.back();
  }
  w.store();
  const ConstView given(reinterpret_cast<const std::byte*>(steps.data()), DType::f32, {s.outputs});
  const auto mine = cuda->prepare_linear(w.host(), GetParam(), {0, given});
  const auto truth = reference->prepare_linear(w.reference(), Precision::fp32);
  const auto rows = quantized(x);
  cuda->linear({x.view(), mine.get(), {}, ActivationFn::none, {}, {out.view(), {}}});
  reference->linear({rows->reference(), truth.get(), {}, ActivationFn::none, {}, {out.reference(), {}}});
  out.fetch();
  for (std::int64_t r = 0; r < s.rows; ++r) {
    for (std::int64_t n = 0; n < s.outputs; ++n) {
      // Sums are of order one. Codes that are a step off would make them 2 % wrong.
      ASSERT_NEAR(out.got(r, n), out.at(r, n), 0.01F + 0.004F * std::abs(out.at(r, n))) << r << ", " << n;
    }
  }
}

/// What the norm writes: every element the nearest there is to the exact one, and the scales behind the rows.
TEST_P(CudaEight, RowsOfANormAreRoundedToNearest) {
  for (const auto& [rows, width] : {std::pair<std::int64_t, std::int64_t>{9, 64}, {70, 768}, {33, 1280}, {5, 2048}}) {
    DeviceMatrix x(*cuda, DType::f16, rows, width), w(*cuda, DType::f32, 64, width);
    DeviceMatrix gamma(*cuda, DType::f32, 1, width), beta(*cuda, DType::f32, 1, width);
    DeviceMatrix room(*cuda, DType::f16, rows, width), out(*cuda, DType::f16, rows, 64);
    DeviceMatrix want(*cuda, DType::f32, rows, width);
    x.fill(1, 3), w.fill(2, 0.05F), gamma.fill(3), beta.fill(4);
    for (std::int64_t r = 0; r < rows; r += 4) x.at(r, 5) *= 300;
    x.store();
    const auto weight = cuda->prepare_norm_linear(w.host(), {}, gamma.host_vector(), beta.host_vector(), GetParam());
    const Tensor g = upload(gamma), b = upload(beta);
    NormLinearArgs a;
    a.x = x.view(), a.gamma = g.view(), a.beta = b.view(), a.weight = weight.get(), a.precision = GetParam();
    a.normalized.view = room.view(), a.out.view = out.view();
    cuda->norm_linear(a);
    reference->layer_norm(
        {x.reference(), gamma.reference_vector(), beta.reference_vector(), 1e-5F, {want.reference(), {}}});
    const auto stored = bytes(room.view());
    for (std::int64_t r = 0; r < rows; ++r) {
      float scale = 0, most = 0;
      std::memcpy(&scale, stored.data() + rows * width + r * 4, 4);
      for (std::int64_t c = 0; c < width; ++c) most = std::max(most, std::abs(want.at(r, c)));
      ASSERT_NEAR(scale, most / kLargestE4m3, 1e-5F * most) << r;
      for (std::int64_t c = 0; c < width; ++c) {
        const float got = from_e4m3(stored[static_cast<std::size_t>(r * width + c)]), exact = want.at(r, c) / scale;
        const float half_step = std::ldexp(1.0F, std::max(std::ilogb(std::max(std::abs(exact), 1e-9F)), -6) - 4);
        ASSERT_LE(std::abs(got - exact), half_step * 1.001F + 1e-4F) << r << ", " << c << ": " << exact;
      }
    }
  }
}

TEST_P(CudaEight, NormAndProduct) {
  for (const std::string kernel : {"", "wide", "narrow"}) {
    for (const Size s : {Size{1, 768, 640}, {50, 768, 520}, {300, 1024, 264}, {1300, 512, 2056}}) {
      if (!kernel.empty() && s.rows < 2) continue;
      for (const ActivationFn fn : {ActivationFn::none, ActivationFn::quick_gelu, ActivationFn::gelu_erf}) {
        DeviceMatrix x(*cuda, DType::f16, s.rows, s.inputs), w(*cuda, DType::f32, s.outputs, s.inputs);
        DeviceMatrix gamma(*cuda, DType::f32, 1, s.inputs), beta(*cuda, DType::f32, 1, s.inputs);
        DeviceMatrix bias(*cuda, DType::f32, 1, s.outputs), room(*cuda, DType::f16, s.rows, s.inputs),
            out(*cuda, DType::f16, s.rows, s.outputs);
        Matrix normed(DType::f32, s.rows, s.inputs);
        x.fill(1, 3), w.fill(2, 1 / std::sqrt(static_cast<float>(s.inputs))), gamma.fill(3, 0.5F), beta.fill(4, 0.5F);
        bias.fill(5);
        if (!kernel.empty()) force(s, fn, false, true, DType::f16, kernel);
        const auto weight = cuda->prepare_norm_linear(w.host(), bias.host_vector(), gamma.host_vector(),
                                                      beta.host_vector(), GetParam());
        const Tensor g = upload(gamma), t = upload(beta), b = upload(bias);
        NormLinearArgs a;
        a.x = x.view(), a.gamma = g.view(), a.beta = t.view(), a.weight = weight.get(), a.bias = b.view(), a.fn = fn;
        a.precision = GetParam(), a.normalized.view = room.view(), a.out.view = out.view();
        cuda->norm_linear(a);
        // The reference multiplies what the norm stored, which the test above looked at.
        const auto stored = bytes(room.view());
        for (std::int64_t r = 0; r < s.rows; ++r) {
          float scale = 0;
          std::memcpy(&scale, stored.data() + s.rows * s.inputs + r * 4, 4);
          for (std::int64_t c = 0; c < s.inputs; ++c) {
            normed.at(r, c) = from_e4m3(stored[static_cast<std::size_t>(r * s.inputs + c)]) * scale;
          }
        }
        const auto truth = truth_of(w);
        linear_by_reference({normed.reference(), truth.get(), bias.reference_vector(), fn, {}, {out.reference(), {}}},
                            s);
        expect_close(out, tolerance(s.inputs), cat(s.rows, " x ", s.inputs, " x ", s.outputs, " ", kernel),
                     rows_apart(s));
      }
    }
  }
}

/// The MLP: what an activation gives is stored in E4M3 with its reader's static scale, also beyond its range; what a
/// reader computes from it; and the same with the scale that the weights bound.
TEST_P(CudaEight, ActivationsForTheirReader) {
  struct Way {
    std::int64_t rows, width, mlp;
    std::string kernel;
  };
  for (const Way& s : {Way{1, 64, 256, ""},
                       {50, 768, 3072, ""},
                       {577, 256, 1024, ""},
                       {257, 512, 528, "wide"},
                       {2300, 400, 2064, "wide"},
                       {257, 512, 528, "narrow"},
                       {2300, 400, 2064, "narrow"}}) {
    for (const ActivationFn fn : {ActivationFn::quick_gelu, ActivationFn::gelu_erf}) {
      for (const float step : {0.0F, 2.0F / kLargestE4m3}) {
        DeviceMatrix x(*cuda, DType::f16, s.rows, s.width), w1(*cuda, DType::f32, s.mlp, s.width);
        DeviceMatrix w2(*cuda, DType::f32, s.width, s.mlp), gamma(*cuda, DType::f32, 1, s.width);
        DeviceMatrix beta(*cuda, DType::f32, 1, s.width), b1(*cuda, DType::f32, 1, s.mlp),
            b2(*cuda, DType::f32, 1, s.width);
        DeviceMatrix room(*cuda, DType::f16, s.rows, s.width), middle(*cuda, DType::f16, s.rows, s.mlp);
        Matrix wanted_middle(DType::f32, s.rows, s.mlp);
        x.fill(1, 3), w1.fill(2, 1 / std::sqrt(static_cast<float>(s.width))), gamma.fill(3), beta.fill(4, 0.3F);
        w2.fill(5, 1 / std::sqrt(static_cast<float>(s.mlp))), b1.fill(6, 0.3F), b2.fill(7);
        if (!s.kernel.empty()) force({s.rows, s.width, s.mlp}, fn, false, true, DType::f8e4m3, s.kernel);
        const auto fc1 =
            cuda->prepare_norm_linear(w1.host(), b1.host_vector(), gamma.host_vector(), beta.host_vector(), GetParam());
        const auto fc2 = cuda->prepare_linear(w2.host(), GetParam(), WeightUse{step});
        const Tensor g = upload(gamma), t = upload(beta), d1 = upload(b1), d2 = upload(b2);
        NormLinearArgs a;
        a.x = x.view(), a.gamma = g.view(), a.beta = t.view(), a.weight = fc1.get(), a.bias = d1.view(), a.fn = fn;
        a.precision = GetParam(), a.normalized.view = room.view(), a.out.view = middle.view(), a.reader = fc2.get();
        cuda->norm_linear(a);
        const auto stored = bytes(room.view()), e4m3 = bytes(middle.view());
        cuda->linear({middle.view(), fc2.get(), d2.view(), ActivationFn::none, x.view(), {x.view(), {}}});
        Matrix normed(DType::f32, s.rows, s.width);
        for (std::int64_t r = 0; r < s.rows; ++r) {
          float scale = 0;
          std::memcpy(&scale, stored.data() + s.rows * s.width + r * 4, 4);
          for (std::int64_t c = 0; c < s.width; ++c) {
            normed.at(r, c) = from_e4m3(stored[static_cast<std::size_t>(r * s.width + c)]) * scale;
          }
        }
        const auto truth1 = truth_of(w1), truth2 = truth_of(w2);
        const Size size{s.rows, s.width, s.mlp};
        linear_by_reference(
            {normed.reference(), truth1.get(), b1.reference_vector(), fn, {}, {wanted_middle.reference(), {}}}, size);
        Matrix read(DType::f32, s.rows, s.mlp);
        for (std::int64_t r = 0; r < s.rows; ++r) {
          if (!is_looked_at(r, s.rows, rows_apart(size))) continue;
          for (std::int64_t c = 0; c < s.mlp; ++c) {
            const float got = from_e4m3(e4m3[static_cast<std::size_t>(r * s.mlp * 2 + c)]),
                        want = wanted_middle.at(r, c);
            read.at(r, c) = step > 0 ? got * step : want;
            if (step <= 0) {
              ASSERT_LT(std::abs(got), kLargestE4m3) << "a bound was exceeded";
              continue;
            }
            // A step of E4M3, and what the product and the activation may be wrong by.
            const float bounded = std::clamp(want, -kLargestE4m3 * step, kLargestE4m3 * step);
            ASSERT_NEAR(read.at(r, c), bounded, std::abs(bounded) * 0x1p-4F + step * 0x1p-9F + 0.02F) << r << ", " << c;
          }
        }
        linear_by_reference({read.reference(),
                             truth2.get(),
                             b2.reference_vector(),
                             ActivationFn::none,
                             x.reference(),
                             {x.reference(), {}}},
                            size);
        Tolerance tolerance_here = tolerance(s.mlp);
        // Without a known scale the reader's input is only known to a sixteenth of itself, term by term.
        if (step <= 0) tolerance_here.absolute += 0.25F;
        expect_close(x, tolerance_here, cat(s.rows, " x ", s.width, " x ", s.mlp, " ", s.kernel, ", step ", step),
                     rows_apart(size));
      }
    }
  }
}

/// Attention between two layers of eight bits, in every kernel that it has: what it stores, and what its reader makes
/// of it, with the reader's scale and with the one that the values' weights bound.
TEST_P(CudaEight, AttentionForItsReader) {
  struct Way {
    std::int64_t count, length, prefix;
    int heads, head_dim;
    bool causal, one_query;
  };
  for (const Way& s : {Way{3, 257, 0, 2, 64, false, false},
                       {2, 200, 0, 3, 80, false, false},
                       {5, 50, 0, 2, 64, false, false},
                       {4, 12, 3, 2, 64, true, false},
                       {3, 20, 0, 4, 20, true, false},
                       {6, 50, 0, 2, 64, false, true},
                       {2, 257, 0, 2, 80, false, true}}) {
    for (const float step : {0.0F, 4.0F / kLargestE4m3}) {
      const std::int64_t width = s.heads * s.head_dim, rows = s.prefix + s.count * s.length;
      const std::int64_t outs = s.one_query ? s.count : rows;
      DeviceMatrix x(*cuda, DType::f16, rows, width), w(*cuda, DType::f32, 3 * width, width);
      DeviceMatrix wo(*cuda, DType::f32, width, width), gamma(*cuda, DType::f32, 1, width);
      DeviceMatrix beta(*cuda, DType::f32, 1, width), bias(*cuda, DType::f32, 1, 3 * width);
      DeviceMatrix room(*cuda, DType::f16, rows, width), qkv(*cuda, DType::f16, rows, 3 * width);
      DeviceMatrix attended(*cuda, DType::f16, outs, width), out(*cuda, DType::f16, outs, width);
      x.fill(1), w.fill(2, 1 / std::sqrt(static_cast<float>(width))), gamma.fill(3), beta.fill(4, 0.1F),
          bias.fill(5, 0.1F);
      wo.fill(6, 1 / std::sqrt(static_cast<float>(width)));
      const auto first =
          cuda->prepare_norm_linear(w.host(), bias.host_vector(), gamma.host_vector(), beta.host_vector(), GetParam());
      const auto reader = cuda->prepare_linear(wo.host(), GetParam(), WeightUse{step});
      const Tensor g = upload(gamma), t = upload(beta), b = upload(bias);
      NormLinearArgs n;
      n.x = x.view(), n.gamma = g.view(), n.beta = t.view(), n.weight = first.get(), n.bias = b.view();
      n.precision = GetParam(), n.normalized.view = room.view(), n.out.view = qkv.view();
      cuda->norm_linear(n);
      const auto attend = [&](Backend& backend, View all, View to, Precision precision) {
        AttentionArgs a;
        a.heads = s.heads, a.head_dim = s.head_dim, a.causal = s.causal, a.precision = precision;
        a.reader = reader.get();
        const View q = all.column_range(0, width), k = all.column_range(width, width),
                   v = all.column_range(2 * width, width);
        if (s.prefix > 0) {
          a.q = q.row_range(0, s.prefix), a.k = k.row_range(0, s.prefix), a.v = v.row_range(0, s.prefix);
          a.queries = a.keys = {1, s.prefix, s.prefix, nullptr};
          a.out = to.row_range(0, s.prefix);
          backend.attention(a);
          a.prefix_k = a.k, a.prefix_v = a.v;
        }
        const std::int64_t own = rows - s.prefix;
        a.q = q.row_range(s.prefix, s.one_query ? s.count : own);
        a.k = k.row_range(s.prefix, own), a.v = v.row_range(s.prefix, own);
        a.keys = {s.count, s.length, own, nullptr};
        a.queries = s.one_query ? Sequences{s.count, 1, s.count, nullptr} : a.keys;
        a.out = to.row_range(s.prefix, to.rows() - s.prefix);
        backend.attention(a);
      };
      attend(*cuda, qkv.view(), attended.view(), GetParam());
      const auto stored = bytes(attended.view());
      cuda->linear({attended.view(), reader.get(), {}, ActivationFn::none, {}, {out.view(), {}}});
      Matrix exact(DType::f32, rows, 3 * width), want(DType::f32, outs, width), read(DType::f32, outs, width);
      const Values given = floats(qkv.view());
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t c = 0; c < 3 * width; ++c)
          exact.at(r, c) = given[static_cast<std::size_t>(r * 3 * width + c)];
      }
      attend(*reference, exact.reference(), want.reference(), Precision::fp32);
      for (std::int64_t r = 0; r < outs; ++r) {
        for (std::int64_t c = 0; c < width; ++c) {
          const float got = from_e4m3(stored[static_cast<std::size_t>(r * width * 2 + c)]);
          read.at(r, c) = step > 0 ? got * step : want.at(r, c);
          if (step <= 0) {
            ASSERT_LT(std::abs(got), kLargestE4m3) << "a bound was exceeded";
            continue;
          }
          const float bounded = std::clamp(want.at(r, c), -kLargestE4m3 * step, kLargestE4m3 * step);
          ASSERT_NEAR(read.at(r, c), bounded, std::abs(bounded) * 0x1p-4F + step * 0x1p-9F + 0.005F) << r << ", " << c;
        }
      }
      const auto truth = truth_of(wo);
      reference->linear({read.reference(), truth.get(), {}, ActivationFn::none, {}, {out.reference(), {}}});
      Tolerance tolerance_here = tolerance(width);
      if (step <= 0) tolerance_here.absolute += 0.15F;
      expect_close(out, tolerance_here, cat(s.count, " of ", s.length, ", heads of ", s.head_dim, ", step ", step));
    }
  }
}

/// A reader kept in sixteen bits is given those, and a layer kept back gives them to one of eight.
TEST_P(CudaEight, LayersKeptBack) {
  const std::int64_t rows = 300, width = 256, mlp = 512;
  for (const bool first : {false, true}) {
    DeviceMatrix x(*cuda, DType::f16, rows, width), w1(*cuda, DType::f32, mlp, width),
        w2(*cuda, DType::f32, width, mlp);
    DeviceMatrix gamma(*cuda, DType::f32, 1, width), beta(*cuda, DType::f32, 1, width), b1(*cuda, DType::f32, 1, mlp);
    DeviceMatrix room(*cuda, DType::f16, rows, width), middle(*cuda, DType::f16, rows, mlp);
    DeviceMatrix wanted(*cuda, DType::f32, rows, mlp), out(*cuda, DType::f16, rows, width);
    Matrix exact_room(DType::f32, rows, width);
    x.fill(1), w1.fill(2, 1.0F / 16), w2.fill(3, 1.0F / 23), gamma.fill(4), beta.fill(5), b1.fill(6);
    const Precision kept = cuda->kept(GetParam());
    const auto fc1 = cuda->prepare_norm_linear(w1.host(), b1.host_vector(), gamma.host_vector(), beta.host_vector(),
                                               first ? kept : GetParam());
    const auto fc2 = cuda->prepare_linear(w2.host(), first ? GetParam() : kept);
    const Tensor g = upload(gamma), t = upload(beta), d1 = upload(b1);
    NormLinearArgs a;
    a.x = x.view(), a.gamma = g.view(), a.beta = t.view(), a.weight = fc1.get(), a.bias = d1.view();
    a.fn = ActivationFn::quick_gelu, a.precision = GetParam(), a.normalized.view = room.view();
    a.out.view = middle.view(), a.reader = fc2.get();
    cuda->norm_linear(a);
    cuda->linear({middle.view(), fc2.get(), {}, ActivationFn::none, {}, {out.view(), {}}});
    const auto truth1 = reference->prepare_linear(w1.reference(), Precision::fp32);
    const auto truth2 = reference->prepare_linear(w2.reference(), Precision::fp32);
    a.x = x.reference(), a.gamma = gamma.reference_vector(), a.beta = beta.reference_vector(), a.weight = truth1.get();
    a.bias = b1.reference_vector(), a.precision = Precision::fp32, a.normalized.view = exact_room.reference();
    a.out.view = wanted.reference(), a.reader = nullptr;
    reference->norm_linear(a);
    reference->linear({wanted.reference(), truth2.get(), {}, ActivationFn::none, {}, {out.reference(), {}}});
    expect_close(out, {0.25F, 0x1p-5F}, first ? "the first kept back" : "the second kept back");
  }
}

TEST_P(CudaEight, NotANumberStaysInItsRow) {
  for (const std::int64_t rows : {9, 700}) {
    DeviceMatrix x(*cuda, DType::f16, rows, 512), w(*cuda, DType::f32, 1032, 512), out(*cuda, DType::f16, rows, 1032);
    x.fill(1), w.fill(2, 0.05F);
    x.at(4, 11) = std::numeric_limits<float>::quiet_NaN();
    x.store();
    const auto weight = cuda->prepare_linear(w.host(), GetParam());
    for (const ActivationFn fn : {ActivationFn::none, ActivationFn::quick_gelu, ActivationFn::gelu_erf}) {
      cuda->linear({x.view(), weight.get(), {}, fn, {}, {out.view(), {}}});
      out.fetch();
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t c = 0; c < 1032; ++c) ASSERT_EQ(std::isnan(out.got(r, c)), r == 4) << r << ", " << c;
      }
    }
  }
}

TEST_P(CudaEight, TuningLeavesTheRightResults) {
  cuda->start_tuning();
  compare({96, 64, 136}, ActivationFn::none, Residual::in_place, true);
  compare({2000, 512, 1160}, ActivationFn::none, Residual::in_place, true);
  compare({2000, 512, 1160}, ActivationFn::gelu_erf, Residual::none, true);
  const std::string text = cuda->tuned();
  EXPECT_NE(text.find("product 1 2048 1160 512 "), std::string::npos) << text;
  auto other = make_cuda_backend(0);
  EXPECT_GE(other->take_tuned(text), 3);
}

INSTANTIATE_TEST_SUITE_P(Precisions, CudaEight, ::testing::Values(Precision::fp8), name_of);

}  // namespace
}  // namespace tandem::backend::test
