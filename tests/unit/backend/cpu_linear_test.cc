// Products of the CPU backend against the reference: linear layers, projection, similarity, patch embedding.
#include <cmath>
#include <limits>

#include "unit/backend/cpu_support.h"

namespace tandem::backend::test {
namespace {

using tandem::test::tolerance;

class CpuLinear : public CpuBackendTest {
 protected:
  struct Shape {
    std::int64_t rows, inputs, outputs;
  };
  enum class Residual { none, in_place, apart };

  void compare(Shape s, ActivationFn fn, Residual residual, DType out_type, bool bias, std::int64_t slack = 0) {
    Matrix x(way().type(), s.rows, s.inputs, s.inputs + slack), w(DType::f32, s.outputs, s.inputs);
    Matrix b(DType::f32, 1, s.outputs), r(out_type, s.rows, s.outputs, s.outputs + 2 * slack);
    Matrix out(out_type, s.rows, s.outputs, s.outputs + slack);
    x.fill(1), w.fill(2, 1 / std::sqrt(static_cast<float>(s.inputs))), b.fill(3), r.fill(4), out.fill(5);
    Matrix rounded(way().type(), s.outputs, s.inputs);
    for (std::int64_t i = 0; i < s.outputs; ++i) {
      for (std::int64_t j = 0; j < s.inputs; ++j) rounded.at(i, j) = w.at(i, j);
    }
    rounded.store();
    const auto weight = cpu->prepare_linear(w.view(), way().precision);
    const auto truth = reference->prepare_linear(rounded.reference(), Precision::fp32);
    LinearArgs a;
    a.fn = fn;
    const auto run = [&](Backend& backend, const PreparedWeight* prepared, bool exact) {
      a.x = ConstOperand(exact ? x.reference() : x.view());
      a.weight = prepared;
      a.bias = bias ? ConstView(exact ? b.reference_vector() : b.host_vector()) : ConstView();
      a.out.view = exact ? out.reference() : out.view();
      a.residual = {};
      if (residual == Residual::in_place) a.residual = a.out.view;
      if (residual == Residual::apart) a.residual = exact ? r.reference() : r.view();
      backend.linear(a);
    };
    run(*reference, truth.get(), true);
    run(*cpu, weight.get(), false);
    expect_close(out, tolerance(out_type, s.inputs),
                 std::to_string(s.rows) + " x " + std::to_string(s.inputs) + " x " + std::to_string(s.outputs));
  }
};

TEST_P(CpuLinear, EveryActivationAndResidual) {
  for (const ActivationFn fn :
       {ActivationFn::none, ActivationFn::quick_gelu, ActivationFn::gelu_erf, ActivationFn::gelu_tanh}) {
    compare({5, 64, 96}, fn, Residual::none, way().type(), true);
    compare({5, 64, 96}, fn, Residual::in_place, DType::f32, true);
    compare({5, 64, 96}, fn, Residual::apart, DType::f32, false);
  }
  compare({9, 64, 128}, ActivationFn::none, Residual::apart, way().type(), true);
}

TEST_P(CpuLinear, OddShapesAndStrides) {
  for (const Shape s : {Shape{1, 1, 1},
                        {1, 7, 3},
                        {2, 20, 60},
                        {3, 33, 65},
                        {7, 15, 130},
                        {8, 16, 63},
                        {13, 104, 31},
                        {29, 588, 80},
                        {50, 80, 320},
                        {200, 17, 5},
                        {400, 64, 64}}) {
    compare(s, ActivationFn::quick_gelu, Residual::in_place, DType::f32, true, 3);
    compare(s, ActivationFn::none, Residual::none, way().type(), true, 0);
  }
}

TEST_P(CpuLinear, ManyInputsAreSummedInBlocks) {
  for (const std::int64_t inputs : {1023, 1024, 1025, 2049, 3072, 5120}) {
    compare({3, inputs, 70}, ActivationFn::gelu_erf, Residual::in_place, DType::f32, true);
    compare({210, inputs, 66}, ActivationFn::quick_gelu, Residual::none, way().type(), true);
  }
}

TEST_P(CpuLinear, ActivationsHoldOverTheirWholeRange) {
  // The identity as weight shows the activation alone.
  std::vector<float> values;
  for (float v = -20; v <= 20; v += 0.013F) values.push_back(v);
  for (const float v : {0.0F, -0.0F, 1e-30F, -1e-30F, 60.0F, -60.0F, 1e4F, -1e4F, 1e30F, -1e30F}) values.push_back(v);
  const auto n = static_cast<std::int64_t>(values.size());
  Matrix x(way().type(), n, 1), w(DType::f32, 1, 1), out(DType::f32, n, 1);
  for (std::int64_t i = 0; i < n; ++i) x.at(i, 0) = values[static_cast<std::size_t>(i)];
  x.store();
  w.at(0, 0) = 1, w.store();
  const auto weight = cpu->prepare_linear(w.view(), way().precision);
  const auto truth = reference->prepare_linear(w.reference(), Precision::fp32);
  for (const ActivationFn fn : {ActivationFn::quick_gelu, ActivationFn::gelu_erf, ActivationFn::gelu_tanh}) {
    reference->linear({x.reference(), truth.get(), {}, fn, {}, {out.reference(), {}}});
    cpu->linear({x.view(), weight.get(), {}, fn, {}, {out.view(), {}}});
    expect_close(out, {1e-6F, 1e-6F}, "activation " + std::to_string(static_cast<int>(fn)));
  }
}

TEST_P(CpuLinear, NotANumberStaysOneInItsRowOnly) {
  Matrix x(way().type(), 9, 40), w(DType::f32, 70, 40), out(DType::f32, 9, 70);
  x.fill(1), w.fill(2);
  x.at(4, 11) = std::numeric_limits<float>::quiet_NaN();
  x.store();
  const auto weight = cpu->prepare_linear(w.view(), way().precision);
  for (const ActivationFn fn :
       {ActivationFn::none, ActivationFn::quick_gelu, ActivationFn::gelu_erf, ActivationFn::gelu_tanh}) {
    cpu->linear({x.view(), weight.get(), {}, fn, {}, {out.view(), {}}});
    for (std::int64_t r = 0; r < 9; ++r) {
      for (std::int64_t c = 0; c < 70; ++c) EXPECT_EQ(std::isnan(out.got(r, c)), r == 4) << r << ", " << c;
    }
  }
}

TEST_P(CpuLinear, ARowDoesNotDependOnItsBatchOrTheThreads) {
  if (way().isa == "amx_bf16" || way().gemm == GemmEngine::onednn) GTEST_SKIP() << "oneDNN does not promise it";
  Matrix x(way().type(), 211, 1100), w(DType::f32, 150, 1100), all(DType::f32, 211, 150);
  x.fill(1), w.fill(2, 0.03F);
  const auto weight = cpu->prepare_linear(w.view(), way().precision);
  cpu->linear({x.view(), weight.get(), {}, ActivationFn::quick_gelu, {}, {all.view(), {}}});
  const auto alone = make_cpu_backend({1, false, way().isa, way().gemm});
  for (const std::int64_t row : {0, 5, 77, 200, 210}) {
    Matrix one(DType::f32, 1, 150);
    alone->linear({x.view().row_range(row, 1), weight.get(), {}, ActivationFn::quick_gelu, {}, {one.view(), {}}});
    for (std::int64_t c = 0; c < 150; ++c) EXPECT_EQ(one.got(0, c), all.got(row, c)) << row << ", " << c;
  }
}

TEST_P(CpuLinear, WeightsComeInEveryStoredType) {
  Matrix x(way().type(), 4, 30), out(DType::f32, 4, 20);
  x.fill(1);
  for (const DType stored : {DType::f32, DType::f16, DType::bf16}) {
    Matrix w(stored, 20, 30), rounded(way().type(), 20, 30);
    w.fill(2, 0.2F);
    for (std::int64_t i = 0; i < 20; ++i) {
      for (std::int64_t j = 0; j < 30; ++j) rounded.at(i, j) = w.at(i, j);
    }
    rounded.store();
    const auto weight = cpu->prepare_linear(w.view(), way().precision);
    EXPECT_EQ(weight->outputs(), 20);
    EXPECT_EQ(weight->inputs(), 30);
    EXPECT_GE(weight->bytes(), 20U * 30U * size_of(way().type()));
    const auto truth = reference->prepare_linear(rounded.reference(), Precision::fp32);
    reference->linear({x.reference(), truth.get(), {}, ActivationFn::none, {}, {out.reference(), {}}});
    cpu->linear({x.view(), weight.get(), {}, ActivationFn::none, {}, {out.view(), {}}});
    expect_close(out, tolerance(DType::f32, 30), "stored as " + std::string(to_string(stored)));
  }
}

TEST_P(CpuLinear, ProjectionHasUnitLength) {
  for (const bool normalize : {true, false}) {
    Matrix x(DType::f32, 5, 48), w(DType::f32, 37, 48), out(DType::f32, 5, 37), same(DType::f32, 5, 48);
    x.fill(1), w.fill(2, 0.15F);
    const auto weight = cpu->prepare_projection(w.view()), truth = reference->prepare_projection(w.reference());
    reference->project({x.reference(), truth.get(), normalize, out.reference()});
    cpu->project({x.view(), weight.get(), normalize, out.view()});
    expect_close(out, tolerance(DType::f32, 48), "projection");
    reference->project({x.reference(), nullptr, normalize, same.reference()});
    cpu->project({x.view(), nullptr, normalize, same.view()});
    expect_close(same, tolerance(DType::f32, 48), "norm alone");
  }
  // Squares of these would overflow, and vanish.
  for (const float size : {1e30F, 1e-30F}) {
    Matrix x(DType::f32, 1, 24), out(DType::f32, 1, 24);
    x.fill(3, size);
    reference->project({x.reference(), nullptr, true, out.reference()});
    cpu->project({x.view(), nullptr, true, out.view()});
    expect_close(out, tolerance(DType::f32, 24), "extreme lengths");
  }
}

TEST_P(CpuLinear, Similarity) {
  for (const Shape s : {Shape{1, 512, 1000}, {3, 17, 5}, {4, 64, 64}, {9, 100, 129}}) {
    Matrix a(DType::f32, s.rows, s.inputs), b(DType::f32, s.outputs, s.inputs), out(DType::f32, s.rows, s.outputs);
    a.fill(1, 0.2F), b.fill(2, 0.2F);
    reference->similarity({a.reference(), b.reference(), 3.5F, out.reference()});
    cpu->similarity({a.view(), b.view(), 3.5F, out.view()});
    expect_close(out, tolerance(DType::f32, s.inputs), "similarity");
  }
}

TEST_P(CpuLinear, PatchEmbedding) {
  struct Case {
    std::int64_t batch;
    int side, patch;
    std::int64_t width;
    bool class_token, bias;
    float rescale;
  };
  for (const Case c : {Case{1, 28, 14, 20, true, false, 1.0F / 255},
                       {3, 32, 8, 64, true, true, 1.0F / 255},
                       {2, 30, 5, 37, false, true, 1.0F / 127.5F},
                       {19, 16, 8, 80, true, false, 1.0F / 255}}) {
    const std::int64_t patches = (c.side / c.patch) * (c.side / c.patch), tokens = patches + (c.class_token ? 1 : 0);
    std::mt19937 random(7);
    std::vector<std::uint8_t> pixels(static_cast<std::size_t>(c.batch * c.side * c.side * 3));
    for (auto& p : pixels) p = static_cast<std::uint8_t>(random() % 256);
    const std::int64_t inputs = 3LL * c.patch * c.patch;
    Matrix w(DType::f32, c.width, inputs), bias(DType::f32, 1, c.width), token(DType::f32, 1, c.width);
    Matrix position(DType::f32, tokens, c.width), out(DType::f32, c.batch * tokens, c.width);
    w.fill(1, 1 / std::sqrt(static_cast<float>(inputs))), bias.fill(2), token.fill(3), position.fill(4);
    const float mean[3] = {0.48145466F, 0.4578275F, 0.40821073F}, std[3] = {0.26862954F, 0.26130258F, 0.27577711F};
    const ConstView published(w.view().data, DType::f32, {c.width, 3, c.patch, c.patch});
    const auto run = [&](Backend& backend, Precision precision, View to) {
      const auto weight = backend.prepare_patch_embed(published, c.bias ? ConstView(bias.host_vector()) : ConstView(),
                                                      mean, std, c.rescale, precision);
      Tensor scratch = host_tensor(
          DType::u8,
          {static_cast<std::int64_t>(backend.patch_embed_scratch(c.batch, c.side, c.patch, c.width, precision)) + 1});
      PatchEmbedArgs a;
      a.pixels = {reinterpret_cast<std::byte*>(pixels.data()), DType::u8, {c.batch, c.side, c.side, 3}};
      a.weight = weight.get(), a.position = position.view(), a.patch = c.patch;
      if (c.class_token) a.class_embedding = token.host_vector();
      a.scratch = scratch.view(), a.out = to;
      backend.patch_embed(a);
    };
    run(*reference, Precision::fp32, out.reference());
    run(*cpu, way().precision, out.view());
    // Weights in bf16 round each product; pixels do not. Values are up to 2 / 0.26 (the rescale 1/127.5) in size.
    auto t = tolerance(DType::f32, inputs * 64);
    if (way().precision == Precision::bf16) t.absolute += 8 * 0x1p-9F * 2.5F;
    expect_close(out, t, "patches of " + std::to_string(c.patch));
  }
}

INSTANTIATE_TEST_SUITE_P(Ways, CpuLinear, ::testing::ValuesIn(all_ways()), name_of);

TEST(CpuBackend, PrecisionsAreResolvedOrRefusedWithTheRemedy) {
  const auto plain = make_cpu_backend({1, false, "scalar"});
  EXPECT_EQ(plain->isa(), "sse2");
  EXPECT_EQ(plain->resolve(Precision::automatic), Precision::fp32);
  for (const Precision p : {Precision::bf16, Precision::fp16, Precision::tf32, Precision::fp8}) {
    try {
      plain->resolve(p);
      ADD_FAILURE() << to_string(p);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Code::unsupported);
      EXPECT_NE(std::string(e.what()).find("--precision fp32"), std::string::npos) << e.what();
    }
  }
  EXPECT_THROW(make_cpu_backend({1, false, "avx9000"}), Error);
}

}  // namespace
}  // namespace tandem::backend::test
