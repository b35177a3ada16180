// Products of the CUDA backend against the reference: linear layers, projection, similarity, patch embedding.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <sstream>

#include "unit/backend/cuda_support.h"

namespace tandem::backend::test {
namespace {

using tandem::test::product_tolerance;

class CudaLinear : public CudaTest {
 protected:
  struct Size {
    std::int64_t rows, inputs, outputs;
  };
  enum class Residual { none, in_place, apart };

  /// A weight of [outputs, inputs] for both backends, with the values as the device rounds them.
  struct Weight {
    std::unique_ptr<PreparedWeight> cuda, reference;
  };
  Weight weight(std::int64_t outputs, std::int64_t inputs, DType stored = DType::f32) {
    DeviceMatrix w(*cuda, stored, outputs, inputs), rounded(*cuda, type(), outputs, inputs);
    w.fill(2, 1 / std::sqrt(static_cast<float>(inputs)));
    for (std::int64_t i = 0; i < outputs; ++i) {
      for (std::int64_t j = 0; j < inputs; ++j) rounded.at(i, j) = w.at(i, j);
    }
    rounded.store();
    return {cuda->prepare_linear(w.host(), GetParam()),
            reference->prepare_linear(rounded.reference(), Precision::fp32)};
  }

  void compare(Size s, ActivationFn fn, Residual residual, DType out_type, bool with_bias, std::int64_t slack = 0) {
    compare(s, fn, residual, out_type, with_bias, slack, product_tolerance(GetParam(), out_type, s.inputs));
  }
  void compare(Size s, ActivationFn fn, Residual residual, DType out_type, bool with_bias, std::int64_t slack,
               tandem::test::Tolerance tolerance) {
    DeviceMatrix x(*cuda, type(), s.rows, s.inputs, s.inputs + slack), b(*cuda, DType::f32, 1, s.outputs);
    DeviceMatrix r(*cuda, out_type, s.rows, s.outputs, s.outputs + 2 * slack);
    DeviceMatrix out(*cuda, out_type, s.rows, s.outputs, s.outputs + slack);
    x.fill(1), b.fill(3), r.fill(4), out.fill(5);
    const Weight w = weight(s.outputs, s.inputs);
    const Tensor bias = cuda->prepare_vector(b.host_vector());
    LinearArgs a;
    a.fn = fn;
    const auto run = [&](Backend& backend, bool exact) {
      a.x = ConstOperand(exact ? x.reference() : x.view());
      a.weight = exact ? w.reference.get() : w.cuda.get();
      a.bias = !with_bias ? ConstView() : exact ? ConstView(b.reference_vector()) : ConstView(bias.view());
      a.out.view = exact ? out.reference() : out.view();
      a.residual = {};
      if (residual == Residual::in_place) a.residual = a.out.view;
      if (residual == Residual::apart) a.residual = exact ? r.reference() : r.view();
      backend.linear(a);
    };
    run(*cuda, false);
    run(*reference, true);
    expect_close(out, tolerance,
                 std::to_string(s.rows) + " x " + std::to_string(s.inputs) + " x " + std::to_string(s.outputs));
  }
};

TEST_P(CudaLinear, EveryActivationAndResidual) {
  for (const ActivationFn fn :
       {ActivationFn::none, ActivationFn::quick_gelu, ActivationFn::gelu_erf, ActivationFn::gelu_tanh}) {
    compare({5, 64, 96}, fn, Residual::none, type(), true);
    compare({5, 64, 96}, fn, Residual::in_place, residual_type(), true);
    compare({5, 64, 96}, fn, Residual::apart, residual_type(), false);
    compare({70, 128, 520}, fn, Residual::none, type(), true, 8);
  }
}

/// What scores are made from is computed more precisely than tf32, whose rounding this tolerance would not let through;
/// many rows in several pieces.
TEST_P(CudaLinear, QueriesKeysAndValuesInTf32) {
  if (GetParam() != Precision::tf32) return;
  const tandem::test::Tolerance t{0x1p-13F, 0x1p-13F};
  compare({70, 256, 768}, ActivationFn::none, Residual::none, type(), true, 0, t);
  compare({5, 30, 90}, ActivationFn::none, Residual::apart, residual_type(), true, 2, t);
  compare({400'000, 16, 48}, ActivationFn::none, Residual::none, type(), true, 8, t);
  compare({400'000, 16, 48}, ActivationFn::none, Residual::in_place, residual_type(), true, 0, t);
}

/// Every finite value of fp16 through both kernels with activations, for few rows and for many: a product with the
/// identity leaves it as it is, so what is stored is the activation alone: within half a step of rounding and a quarter
/// of approximation.
TEST_P(CudaLinear, ActivationOfEveryHalf) {
  if (GetParam() != Precision::fp16) return;  // what the approximations are made for
  constexpr std::int64_t kWidth = 64;
  for (const std::int64_t rows : {std::int64_t{65536} / kWidth, std::int64_t{65536} / kWidth * 16}) {
    DeviceMatrix x(*cuda, DType::f16, rows, kWidth), out(*cuda, DType::f16, rows, kWidth);
    DeviceMatrix identity(*cuda, DType::f16, kWidth, kWidth), zero(*cuda, DType::f32, 1, kWidth);
    const auto value = [&](std::int64_t i) {
      const auto bits = static_cast<std::uint16_t>(i);
      float v = 0;
      convert({reinterpret_cast<const std::byte*>(&bits), DType::f16, {1}},
              {reinterpret_cast<std::byte*>(&v), DType::f32, {1}});
      return std::isfinite(v) ? v : 0.0F;
    };
    for (std::int64_t i = 0; i < rows * kWidth; ++i) x.at(i / kWidth, i % kWidth) = value(i & 0xffff);
    for (std::int64_t i = 0; i < kWidth; ++i) identity.at(i, i) = 1;
    x.store(), identity.store();
    const auto weight = cuda->prepare_linear(identity.host(), Precision::fp16);
    const Tensor bias = cuda->prepare_vector(zero.host_vector());
    for (const ActivationFn fn : {ActivationFn::quick_gelu, ActivationFn::gelu_erf}) {
      cuda->linear({x.view(), weight.get(), bias.view(), fn, {}, {out.view(), {}}});
      out.fetch();
      double worst = 0, at = 0;
      for (std::int64_t i = 0; i < 65536; ++i) {
        const double v = value(i);
        const double exact =
            fn == ActivationFn::quick_gelu ? v / (1 + std::exp(-1.702 * v)) : v * 0.5 * std::erfc(-v * std::sqrt(0.5));
        const double step = std::ldexp(1.0, std::max(std::ilogb(std::max(std::abs(exact), 1e-30)) - 10, -24));
        const double error = std::abs(out.got(i / kWidth, i % kWidth) - exact) / step;
        if (!(error <= worst)) worst = error, at = v;
      }
      EXPECT_LE(worst, 0.75) << (fn == ActivationFn::quick_gelu ? "quick_gelu" : "gelu_erf") << " of " << at;
    }
  }
}

/// What one backend measured, another takes and computes with; tuning itself leaves the right results behind.
TEST_P(CudaLinear, TuningIsTakenOver) {
  ::setenv("TANDEM_TUNING", "", 1);  // not what is shipped
  const auto all = [&] {
    // Rows of such widths are no multiple of 16 bytes: the kernel of one wave leaves them to cuBLASLt.
    compare({96, 64, 132}, ActivationFn::none, Residual::none, type(), true);
    compare({96, 128, 68}, ActivationFn::none, Residual::apart, residual_type(), true);
    compare({40, 2048, 60}, ActivationFn::none, Residual::in_place, residual_type(), true);  // splits are tried
  };
  cuda = make_cuda_backend(0);
  all();
  EXPECT_EQ(cuda->choices()->proposed, 3);
  cuda->start_tuning();
  all();
  EXPECT_EQ(cuda->choices()->measured, 3);
  const std::string text = cuda->tuned();
  cuda = make_cuda_backend(0);
  EXPECT_EQ(cuda->take_tuned(text, "some.tuning"), 3) << text;
  ::unsetenv("TANDEM_TUNING");
  EXPECT_EQ(cuda->take_tuned("cublasLt 1 96 128 64 0 00\nnonsense\n", "other.tuning"), 0);
  all();
  EXPECT_EQ(cuda->choices()->file, "some.tuning");
  EXPECT_EQ(cuda->choices()->measured, 3);
  EXPECT_EQ(cuda->choices()->proposed, 0);
}

/// The same where several kernels can compute a product: which of them is measured, too.
TEST_P(CudaLinear, TheFastestKernelIsTakenOver) {
  ::setenv("TANDEM_TUNING", "", 1);
  const auto all = [&] {
    compare({50, 768, 256}, ActivationFn::none, Residual::none, type(), true);
    compare({50, 768, 264}, ActivationFn::quick_gelu, Residual::none, type(), true);
    compare({50, 1024, 128}, ActivationFn::none, Residual::in_place, residual_type(), true);
    compare({3000, 128, 512}, ActivationFn::gelu_erf, Residual::none, type(), true);
  };
  cuda = make_cuda_backend(0);
  cuda->start_tuning();
  all();
  const std::string text = cuda->tuned();
  const bool several = cuda->isa() == "sm_90" && type() != DType::f32;
  EXPECT_EQ(text.find("product ") != std::string::npos, several) << text;
  cuda = make_cuda_backend(0);
  EXPECT_EQ(cuda->take_tuned(text), std::count(text.begin(), text.end(), '\n')) << text;
  ::unsetenv("TANDEM_TUNING");
  all();
  EXPECT_EQ(cuda->choices()->measured, 4) << text;
  EXPECT_EQ(cuda->choices()->proposed, 0) << text;
  // Plans that there are not: the rule decides.
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("product ")) cuda->take_tuned(line.substr(0, line.rfind(' ')) + " wave-63x64x999999\n");
  }
  EXPECT_EQ(cuda->take_tuned("product 999 50 256 768 0 library\nproduct 1 50 256 768 0 other\n"), 0);
  all();
}

/// An activation behind a residual in place: the first call, which could measure, computes the same as any other.
TEST_P(CudaLinear, TuningKeepsWhatAnActivationIsAddedTo) {
  ::setenv("TANDEM_TUNING", "", 1);
  cuda = make_cuda_backend(0);
  ::unsetenv("TANDEM_TUNING");
  cuda->start_tuning();
  for (int call = 0; call < 2; ++call) {
    compare({50, 256, 264}, ActivationFn::quick_gelu, Residual::in_place, residual_type(), true);
  }
}

/// Few rows: tiles that are cut off on either side, inputs that end within a stage, inputs divided among blocks.
TEST_P(CudaLinear, ProductsOfOneWave) {
  for (const Size s : {Size{1, 1024, 264},
                       {3, 1600, 72},
                       {10, 3072, 128},
                       {50, 1536, 200},
                       {64, 72, 64},
                       {65, 3000, 96},
                       {130, 520, 328},
                       {300, 200, 1000},
                       {577, 136, 2048}}) {
    compare(s, ActivationFn::none, Residual::none, type(), true);
    compare(s, ActivationFn::none, Residual::in_place, residual_type(), true, 8);
    compare(s, ActivationFn::none, Residual::apart, residual_type(), false);
    compare(s, ActivationFn::quick_gelu, Residual::none, type(), true, 16);
    compare(s, ActivationFn::gelu_erf, Residual::apart, type(), true);
  }
}

TEST_P(CudaLinear, OddShapesAndStrides) {
  for (const Size s : {Size{1, 1, 1},
                       {1, 7, 3},
                       {2, 20, 60},
                       {3, 33, 65},
                       {7, 15, 130},
                       {8, 16, 63},
                       {29, 588, 80},
                       {50, 80, 320},
                       {200, 17, 5},
                       {400, 64, 64}}) {
    compare(s, ActivationFn::quick_gelu, Residual::none, type(), true, 3);
    compare(s, ActivationFn::none, Residual::in_place, residual_type(), true, 0);
    compare(s, ActivationFn::none, Residual::apart, residual_type(), true, 8);
  }
}

TEST_P(CudaLinear, ShapesOfTheModels) {
  for (const Size s : {Size{50, 768, 2304}, {257, 1280, 1280}, {577, 1024, 1024}, {300, 3072, 768}}) {
    compare(s, ActivationFn::none, Residual::none, type(), true);
    compare(s, ActivationFn::none, Residual::in_place, residual_type(), true);
  }
}

TEST_P(CudaLinear, EveryNumberOfRowsInOneBucketOfAlgorithms) {
  for (const std::int64_t rows : {257, 258, 271, 272, 273, 511, 512, 513, 1000}) {
    compare({rows, 64, 72}, ActivationFn::none, Residual::in_place, residual_type(), true);
  }
}

TEST_P(CudaLinear, ActivationsHoldOverTheirWholeRange) {
  // The identity as weight shows the activation alone.
  std::vector<float> values;
  for (float v = -20; v <= 20; v += 0.013F) values.push_back(v);
  for (const float v : {0.0F, -0.0F, 1e-6F, -1e-6F, 60.0F, -60.0F, 1e4F, -1e4F}) values.push_back(v);
  const auto n = static_cast<std::int64_t>(values.size());
  DeviceMatrix x(*cuda, type(), n, 1), w(*cuda, DType::f32, 1, 1), out(*cuda, type(), n, 1);
  for (std::int64_t i = 0; i < n; ++i) x.at(i, 0) = values[static_cast<std::size_t>(i)];
  x.store();
  w.at(0, 0) = 1, w.store();
  const auto prepared = cuda->prepare_linear(w.host(), GetParam());
  const auto truth = reference->prepare_linear(w.reference(), Precision::fp32);
  for (const ActivationFn fn : {ActivationFn::quick_gelu, ActivationFn::gelu_erf, ActivationFn::gelu_tanh}) {
    cuda->linear({x.view(), prepared.get(), {}, fn, {}, {out.view(), {}}});
    reference->linear({x.reference(), truth.get(), {}, fn, {}, {out.reference(), {}}});
    expect_close(out, product_tolerance(GetParam(), type(), 16), "activation " + std::to_string(static_cast<int>(fn)));
  }
}

TEST_P(CudaLinear, NotANumberStaysInItsRow) {
  DeviceMatrix x(*cuda, type(), 9, 40), out(*cuda, type(), 9, 72);
  x.fill(1);
  x.at(4, 11) = std::numeric_limits<float>::quiet_NaN();
  x.store();
  const Weight w = weight(72, 40);
  for (const ActivationFn fn :
       {ActivationFn::none, ActivationFn::quick_gelu, ActivationFn::gelu_erf, ActivationFn::gelu_tanh}) {
    cuda->linear({x.view(), w.cuda.get(), {}, fn, {}, {out.view(), {}}});
    out.fetch();
    for (std::int64_t r = 0; r < 9; ++r) {
      for (std::int64_t c = 0; c < 72; ++c) EXPECT_EQ(std::isnan(out.got(r, c)), r == 4) << r << ", " << c;
    }
  }
}

TEST_P(CudaLinear, WeightsComeInEveryStoredType) {
  DeviceMatrix x(*cuda, type(), 4, 30), out(*cuda, type(), 4, 20);
  x.fill(1);
  for (const DType stored : {DType::f32, DType::f16, DType::bf16}) {
    const Weight w = weight(20, 30, stored);
    cuda->linear({x.view(), w.cuda.get(), {}, ActivationFn::none, {}, {out.view(), {}}});
    reference->linear({x.reference(), w.reference.get(), {}, ActivationFn::none, {}, {out.reference(), {}}});
    expect_close(out, product_tolerance(GetParam(), type(), 30), std::string(to_string(stored)));
  }
}

TEST_P(CudaLinear, RowsOfAStackedWeight) {
  DeviceMatrix x(*cuda, type(), 6, 64), w(*cuda, DType::f16, 96, 64), out(*cuda, type(), 6, 32);
  x.fill(1), w.fill(2, 0.125F);
  DeviceMatrix rounded(*cuda, type(), 32, 64);
  for (std::int64_t i = 0; i < 32; ++i) {
    for (std::int64_t j = 0; j < 64; ++j) rounded.at(i, j) = w.at(32 + i, j);
  }
  rounded.store();
  const auto prepared = cuda->prepare_linear(w.host().row_range(32, 32), GetParam());
  const auto truth = reference->prepare_linear(rounded.reference(), Precision::fp32);
  EXPECT_EQ(prepared->outputs(), 32);
  EXPECT_EQ(prepared->inputs(), 64);
  cuda->linear({x.view(), prepared.get(), {}, ActivationFn::none, {}, {out.view(), {}}});
  reference->linear({x.reference(), truth.get(), {}, ActivationFn::none, {}, {out.reference(), {}}});
  expect_close(out, product_tolerance(GetParam(), type(), 64), "rows 32 to 64");
}

TEST_P(CudaLinear, Projection) {
  for (const bool normalize : {false, true}) {
    for (const bool with_weight : {false, true}) {
      DeviceMatrix x(*cuda, DType::f32, 19, 96), w(*cuda, DType::f32, 40, 96);
      DeviceMatrix out(*cuda, DType::f32, 19, with_weight ? 40 : 96);
      x.fill(1), w.fill(2, 0.1F);
      const auto prepared = cuda->prepare_projection(w.host());
      const auto truth = reference->prepare_projection(w.reference());
      cuda->project({x.view(), with_weight ? prepared.get() : nullptr, normalize, out.view()});
      reference->project({x.reference(), with_weight ? truth.get() : nullptr, normalize, out.reference()});
      expect_close(out, tandem::test::tolerance(DType::f32, 96), "projection");
    }
  }
}

TEST_P(CudaLinear, Similarity) {
  DeviceMatrix a(*cuda, DType::f32, 33, 512, 520), b(*cuda, DType::f32, 1001, 512), out(*cuda, DType::f32, 33, 1001);
  a.fill(1, 0.0442F), b.fill(2, 0.0442F);
  cuda->similarity({a.view(), b.view(), 100, out.view()});
  reference->similarity({a.reference(), b.reference(), 100, out.reference()});
  auto t = tandem::test::tolerance(DType::f32, 512);
  t.absolute *= 100;
  expect_close(out, t, "similarity");
}

TEST_P(CudaLinear, PatchEmbedding) {
  struct Picture {
    std::int64_t images, side;
    int patch;
    std::int64_t width;
    bool class_token;
  };
  for (const Picture p : {Picture{3, 32, 8, 64, true},
                          {2, 42, 14, 72, true},
                          {5, 64, 32, 128, false},
                          {1, 15, 5, 20, true},
                          {2, 224, 14, 64, true},
                          {130, 64, 4, 24, true}}) {
    const std::int64_t grid = p.side / p.patch, tokens = grid * grid + (p.class_token ? 1 : 0);
    const std::int64_t inputs = 3 * p.patch * p.patch;
    DeviceMatrix w(*cuda, DType::f32, p.width, inputs), position(*cuda, DType::f32, tokens, p.width);
    DeviceMatrix first(*cuda, DType::f32, 1, p.width), bias(*cuda, DType::f32, 1, p.width);
    DeviceMatrix out(*cuda, residual_type(), p.images * tokens, p.width);
    // Of order one after the pixels' normalisation, as the tolerance wants it.
    w.fill(1, 0.5F / std::sqrt(static_cast<float>(inputs)));
    position.fill(2, 0.3F), first.fill(3), bias.fill(4, 0.3F);
    std::vector<std::uint8_t> pixels(static_cast<std::size_t>(p.images * p.side * p.side * 3));
    std::mt19937 random(5);
    for (auto& byte : pixels) byte = static_cast<std::uint8_t>(random());
    const Shape shape{p.images, p.side, p.side, 3};
    const Buffer device_pixels = cuda->allocate(pixels.size());
    cuda->upload(pixels.data(), {device_pixels.data(), DType::u8, shape});
    const float mean[3] = {0.48145466F, 0.4578275F, 0.40821073F}, std[3] = {0.26862954F, 0.26130258F, 0.27577711F};
    const Shape kernel{p.width, 3, p.patch, p.patch};
    const auto prepared = cuda->prepare_patch_embed({w.host().data, DType::f32, kernel}, bias.host_vector(), mean, std,
                                                    1.0F / 255, GetParam());
    const auto truth = reference->prepare_patch_embed({w.host().data, DType::f32, kernel}, bias.host_vector(), mean,
                                                      std, 1.0F / 255, Precision::fp32);
    const std::size_t scratch_bytes =
        cuda->patch_embed_scratch(p.images, static_cast<int>(p.side), p.patch, p.width, GetParam());
    const Buffer scratch = cuda->allocate(scratch_bytes);
    PatchEmbedArgs a;
    a.patch = p.patch;
    a.pixels = {reinterpret_cast<const std::byte*>(pixels.data()), DType::u8, shape};
    a.weight = truth.get(), a.position = position.reference(), a.out = out.reference();
    if (p.class_token) a.class_embedding = first.reference_vector();
    reference->patch_embed(a);
    const Tensor device_first = cuda->prepare_vector(first.host_vector());
    a.pixels = {device_pixels.data(), DType::u8, shape};
    a.weight = prepared.get(), a.position = position.view(), a.out = out.view();
    if (p.class_token) a.class_embedding = device_first.view();
    a.scratch = {scratch.data(), DType::u8, {static_cast<std::int64_t>(scratch_bytes)}};
    cuda->patch_embed(a);
    // Here the weights are rounded on one side only: each term is wrong by the type's rounding of itself.
    auto t = product_tolerance(GetParam(), type() == DType::f32 ? residual_type() : type(), inputs);
    expect_close(out, t, "patches of " + std::to_string(p.patch));
  }
}

INSTANTIATE_TEST_SUITE_P(Every, CudaLinear, every_precision(), name_of);

}  // namespace
}  // namespace tandem::backend::test
