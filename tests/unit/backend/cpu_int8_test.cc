// Products in int8 on every instruction set against plain loops: whole numbers exactly, everything else within
// rounding.
#include <cmath>
#include <cstring>
#include <limits>

#include "backend/cpu/quantised.h"
#include "unit/backend/cpu_support.h"

namespace tandem::backend::test {
namespace {

using tandem::test::Tolerance;
using tandem::test::tolerance;

class CpuInt8 : public CpuBackendTest {
 protected:
  struct Shape {
    std::int64_t rows, inputs, outputs;
  };

  /// One layer on both backends, `out` holding both results.
  void run(Matrix& x, Matrix& w, Matrix& out, Matrix* bias = nullptr, ActivationFn fn = ActivationFn::none,
           Matrix* residual = nullptr, float input_scale = 0) {
    const auto mine = cpu->prepare_linear(w.view(), Precision::int8, {input_scale});
    const auto truth = reference->prepare_linear(w.reference(), Precision::int8, {input_scale});
    EXPECT_EQ(mine->type(), DType::i8);
    EXPECT_TRUE(mine->has_scales());
    reference->linear({x.reference(),
                       truth.get(),
                       bias != nullptr ? ConstView(bias->reference_vector()) : ConstView(),
                       fn,
                       residual != nullptr ? ConstView(residual->reference()) : ConstView(),
                       {out.reference(), {}}});
    cpu->linear({x.view(),
                 mine.get(),
                 bias != nullptr ? bias->host_vector() : ConstView(),
                 fn,
                 residual != nullptr ? ConstView(residual->view()) : ConstView(),
                 {out.view(), {}}});
  }
};

std::string text_of(std::int64_t rows, std::int64_t inputs, std::int64_t outputs) {
  return std::to_string(rows) + " x " + std::to_string(inputs) + " x " + std::to_string(outputs);
}

TEST_P(CpuInt8, WholeNumbersAreMultipliedExactly) {
  std::mt19937 random(5);
  for (const Shape s :
       {Shape{1, 1, 1}, {3, 2, 5}, {4, 3, 16}, {7, 63, 65}, {13, 64, 64}, {30, 130, 190}, {97, 1024, 70}}) {
    Matrix x(way().type(), s.rows, s.inputs), w(DType::f32, s.outputs, s.inputs), out(DType::f32, s.rows, s.outputs);
    for (Matrix* m : {&x, &w}) {
      for (std::int64_t r = 0; r < m->rows(); ++r) {
        for (std::int64_t c = 0; c < s.inputs; ++c) m->at(r, c) = static_cast<float>(random() % 255) - 127;
        m->at(r, static_cast<std::int64_t>(random()) % s.inputs) = r % 2 == 0 ? 127.0F : -127.0F;  // steps are one
      }
      m->store();
    }
    run(x, w, out);
    for (std::int64_t r = 0; r < s.rows; ++r) {
      for (std::int64_t n = 0; n < s.outputs; ++n) {
        std::int64_t sum = 0;
        for (std::int64_t c = 0; c < s.inputs; ++c) sum += std::lround(x.at(r, c)) * std::lround(w.at(n, c));
        ASSERT_EQ(out.got(r, n), static_cast<float>(sum))
            << text_of(s.rows, s.inputs, s.outputs) << ": " << r << ", " << n;
      }
    }
  }
}

TEST_P(CpuInt8, WeightsThatComeWithTheirStepsStayWhatTheyAre) {
  const Shape s{9, 70, 67};
  std::mt19937 random(6);
  Matrix x(way().type(), s.rows, s.inputs), w(DType::f32, s.outputs, s.inputs), out(DType::f32, s.rows, s.outputs);
  for (std::int64_t r = 0; r < s.rows; ++r) {
    for (std::int64_t c = 0; c < s.inputs; ++c) x.at(r, c) = c == r ? 127 : static_cast<float>(random() % 255) - 127;
  }
  // At most 40 steps: a scale from the largest magnitude would fit none of them.
  std::vector<float> steps;
  std::vector<int> codes;
  for (std::int64_t n = 0; n < s.outputs; ++n) {
    steps.push_back(0.001F * static_cast<float>(n + 1) / 3);
    for (std::int64_t c = 0; c < s.inputs; ++c) {
      codes.push_back(static_cast<int>(random() % 81) - 40);
      w.at(n, c) = static_cast<float>(codes.back()) * steps.back();
    }
  }
  w.at(5, 3) = 1000 * steps[5], codes[static_cast<std::size_t>(5 * s.inputs + 3)] = 127;  // there are no more
  x.store(), w.store();
  const ConstView given(reinterpret_cast<const std::byte*>(steps.data()), DType::f32, {s.outputs});
  for (const auto& backend : {cpu.get(), reference.get()}) {
    const auto weight = backend->prepare_linear(w.reference(), Precision::int8, {0, given});
    const bool mine = backend == cpu.get();
    backend->linear({mine ? x.view() : x.reference(), weight.get(), {}, ActivationFn::none, {}, {out.view(), {}}});
    for (std::int64_t r = 0; r < s.rows; ++r) {
      for (std::int64_t n = 0; n < s.outputs; ++n) {
        std::int64_t sum = 0;
        for (std::int64_t c = 0; c < s.inputs; ++c) {
          sum += std::lround(x.at(r, c)) * codes[static_cast<std::size_t>(n * s.inputs + c)];
        }
        const float want = static_cast<float>(sum) * steps[static_cast<std::size_t>(n)];
        ASSERT_NEAR(out.got(r, n), want, 1e-6F * std::abs(want)) << mine << ": " << r << ", " << n;
      }
    }
  }
}

TEST_P(CpuInt8, ExtremesDoNotSaturate) {
  // Where bytes' products are added in sixteen bits, two of these overflow.
  for (const std::int64_t inputs : {2, 4, 5, 1000}) {
    Matrix x(way().type(), 4, inputs), w(DType::f32, 66, inputs), out(DType::f32, 4, 66);
    for (std::int64_t c = 0; c < inputs; ++c) {
      for (std::int64_t r = 0; r < 4; ++r)
        x.at(r, c) = (r < 2 ? 127.0F : c % 2 == 0 ? 127.0F : -127.0F) * (r % 2 == 0 ? 1 : -1);
      for (std::int64_t n = 0; n < 66; ++n) w.at(n, c) = n % 3 == 0 ? 127.0F : n % 3 == 1 ? -127.0F : x.at(2, c);
    }
    x.store(), w.store();
    run(x, w, out);
    for (std::int64_t r = 0; r < 4; ++r) {
      for (std::int64_t n = 0; n < 66; ++n) {
        float sum = 0;
        for (std::int64_t c = 0; c < inputs; ++c) sum += x.at(r, c) * w.at(n, c);
        EXPECT_EQ(out.got(r, n), sum) << inputs << ": " << r << ", " << n;
      }
    }
  }
}

TEST_P(CpuInt8, EqualsTheReference) {
  for (const Shape s : {Shape{1, 7, 3},
                        {2, 20, 60},
                        {3, 33, 65},
                        {7, 15, 130},
                        {13, 104, 31},
                        {29, 588, 80},
                        {50, 80, 320},
                        {200, 17, 5},
                        {400, 64, 64},
                        {3, 4096, 70},
                        {3, 4097, 66},
                        {210, 5120, 66},
                        {2, 9001, 9}}) {
    for (const ActivationFn fn :
         {ActivationFn::none, ActivationFn::quick_gelu, ActivationFn::gelu_erf, ActivationFn::gelu_tanh}) {
      const bool stream = fn == ActivationFn::none;
      const DType type = stream ? DType::f32 : way().type();
      Matrix x(way().type(), s.rows, s.inputs, s.inputs + 3), w(DType::f32, s.outputs, s.inputs),
          b(DType::f32, 1, s.outputs);
      Matrix residual(type, s.rows, s.outputs, s.outputs + 5), out(type, s.rows, s.outputs, s.outputs + 2);
      x.fill(1), w.fill(2, 1 / std::sqrt(static_cast<float>(s.inputs))), b.fill(3), residual.fill(4), out.fill(5);
      run(x, w, out, &b, fn, stream ? &residual : nullptr);
      expect_close(out, tolerance(type, s.inputs), text_of(s.rows, s.inputs, s.outputs));
    }
  }
}

TEST_P(CpuInt8, StaticScalesCutWhatIsBeyond) {
  Matrix x(way().type(), 21, 200), w(DType::f32, 70, 200), out(DType::f32, 21, 70);
  x.fill(1), w.fill(2, 0.1F);
  x.at(3, 7) = 1000, x.at(3, 8) = -1000;
  x.store();
  run(x, w, out, nullptr, ActivationFn::none, nullptr, 2.5F / 127);
  expect_close(out, tolerance(DType::f32, 200), "static");
  EXPECT_LT(std::abs(out.got(3, 0)), 10) << "nothing was cut";
}

TEST_P(CpuInt8, RowsOfZerosAndOfNoNumbersStayApart) {
  Matrix x(way().type(), 9, 45), w(DType::f32, 70, 45), b(DType::f32, 1, 70), out(DType::f32, 9, 70);
  x.fill(1), w.fill(2), b.fill(3);
  for (std::int64_t c = 0; c < 45; ++c) x.at(1, c) = 0, x.at(2, c) = 1e-38F, w.at(69, c) = 0;
  x.at(4, 44) = std::numeric_limits<float>::quiet_NaN();
  x.at(6, 0) = -std::numeric_limits<float>::infinity();
  x.store(), w.store();
  for (const float step : {0.0F, 0.1F}) {
    for (const ActivationFn fn : {ActivationFn::none, ActivationFn::gelu_erf}) {
      run(x, w, out, &b, fn, nullptr, step);
      for (std::int64_t r = 0; r < 9; ++r) {
        for (std::int64_t n = 0; n < 70; ++n) EXPECT_EQ(std::isnan(out.got(r, n)), r == 4 || r == 6) << r << ", " << n;
        for (std::int64_t n = 0; n < 70 && fn == ActivationFn::none; ++n) {
          if (r == 1 || r == 2) {
            EXPECT_EQ(out.got(r, n), b.got(0, n)) << r << ", " << n;
          }
        }
      }
    }
  }
}

TEST_P(CpuInt8, NormsGoStraightIntoEightBits) {
  for (const Shape s : {Shape{1, 64, 70}, {37, 100, 190}, {130, 768, 130}}) {
    Matrix x(DType::f32, s.rows, s.inputs, s.inputs + 3), w(DType::f32, s.outputs, s.inputs),
        b(DType::f32, 1, s.outputs);
    Matrix gamma(DType::f32, 1, s.inputs), beta(DType::f32, 1, s.inputs), room(way().type(), s.rows, s.inputs);
    Matrix plain(DType::f32, s.rows, s.inputs), out(way().type(), s.rows, s.outputs);
    x.fill(1, 3), w.fill(2, 1 / std::sqrt(static_cast<float>(s.inputs))), b.fill(3), gamma.fill(4), beta.fill(5);
    for (std::int64_t r = 0; r < s.rows; ++r) x.at(r, r % s.inputs) += 200;  // a channel far beyond the others
    x.store();
    const auto mine =
        cpu->prepare_norm_linear(w.view(), b.host_vector(), gamma.host_vector(), beta.host_vector(), Precision::int8);
    const auto truth = reference->prepare_linear(w.reference(), Precision::int8);
    NormLinearArgs a;
    a.eps = 1e-5F, a.fn = ActivationFn::quick_gelu, a.precision = Precision::int8;
    a.x = x.reference(), a.gamma = gamma.reference_vector(), a.beta = beta.reference_vector();
    a.weight = truth.get(), a.bias = b.reference_vector();
    a.normalized = {plain.reference(), {}}, a.out = {out.reference(), {}};
    reference->norm_linear(a);
    a.x = x.view(), a.gamma = gamma.host_vector(), a.beta = beta.host_vector();
    a.weight = mine.get(), a.bias = b.host_vector();
    a.normalized = {room.view(), {}}, a.out = {out.view(), {}};
    cpu->norm_linear(a);
    // The norm rounds otherwise here: now and then a value falls on the other side of a half, which is one step.
    float top = 0;
    for (std::int64_t r = 0; r < s.rows; ++r) {
      for (std::int64_t c = 0; c < s.inputs; ++c) top = std::max(top, std::abs(plain.at(r, c)));
    }
    Tolerance t = tolerance(way().type(), s.inputs);
    t.absolute += 2 * top / 127 * 4 / std::sqrt(static_cast<float>(s.inputs));
    expect_close(out, t, text_of(s.rows, s.inputs, s.outputs));
  }
}

TEST_P(CpuInt8, ARowDoesNotDependOnItsBatchOrTheThreads) {
  constexpr std::int64_t kRows = 211, kInputs = 1100, kOutputs = 150;
  Matrix x(way().type(), kRows, kInputs), w(DType::f32, kOutputs, kInputs), all(DType::f32, kRows, kOutputs);
  Matrix some(DType::f32, kRows, kOutputs);
  x.fill(1), w.fill(2);
  const auto weight = cpu->prepare_linear(w.view(), Precision::int8);
  cpu->linear({x.view(), weight.get(), {}, ActivationFn::gelu_erf, {}, {all.view(), {}}});
  const auto alone = make_cpu_backend({1, false, way().isa, way().gemm});
  for (Backend* backend : {cpu.get(), alone.get()}) {
    for (const std::int64_t count : {1, 2, 7, 50, 211}) {
      const std::int64_t first = kRows - count;
      backend->linear({x.view().row_range(first, count),
                       weight.get(),
                       {},
                       ActivationFn::gelu_erf,
                       {},
                       {some.view().row_range(first, count), {}}});
      EXPECT_EQ(std::memcmp(some.view().row_range(first, count).data, all.view().row_range(first, count).data,
                            static_cast<std::size_t>(count * kOutputs) * sizeof(float)),
                0)
          << count;
    }
  }
}

TEST_P(CpuInt8, SaysWhatMemoryItsRowsTake) {
  const cpu::Kernels& kernels = cpu::avx2_kernels();  // whatever runs: only sizes are asked for
  cpu::Workspace workspace(1);
  cpu::Team team(1, cpu::Team::Kind::own, {}, nullptr);
  cpu::QuantisedRows rows;
  EXPECT_EQ(rows.bytes(), 0U);
  std::size_t most = 0;
  for (const Shape s : {Shape{3, 100, 0}, {200, 64, 0}, {70, 300, 0}, {9, 65, 0}}) {
    Matrix x(DType::f32, s.rows, s.inputs);
    x.fill(1);
    rows.take(kernels, workspace, team, x.view(), {}, 0);
    most = std::max(most, cpu::QuantisedRows::bytes_for(kernels, s.rows, s.inputs));
    EXPECT_GE(rows.bytes(), cpu::QuantisedRows::bytes_for(kernels, s.rows, s.inputs));
    EXPECT_LE(rows.bytes(), most + 200 * sizeof(float));  // the steps of the most rows, the values of the most bytes
    EXPECT_EQ(cpu->linear_scratch(s.rows, s.inputs, Precision::fp32), 0U);
    // A byte or two a value, in whole vectors, and a step a row.
    const auto said = static_cast<std::int64_t>(cpu->linear_scratch(s.rows, s.inputs, Precision::int8));
    EXPECT_GE(said, s.rows * (s.inputs + 4));
    EXPECT_LE(said, s.rows * (2 * (s.inputs + 63) + 4));
  }
}

TEST_P(CpuInt8, TakesAQuarterOfFloat32AndSaysHowMuchRan) {
  Matrix w(DType::f32, 256, 512), x(way().type(), 3, 512), out(way().type(), 3, 256);
  w.fill(1), x.fill(2);
  const auto quantised = cpu->prepare_linear(w.view(), Precision::int8);
  const auto kept = cpu->prepare_linear(w.view(), cpu->kept(Precision::int8));
  EXPECT_EQ(kept->type(), way().type());
  EXPECT_EQ(quantised->bytes(), 256u * 512 + 256 * 8);
  EXPECT_EQ(cpu->types(Precision::int8).activation, way().type());
  EXPECT_EQ(cpu->resolve(Precision::int8), Precision::int8);
  const auto work = cpu->linear_work();
  EXPECT_EQ(work->all, 0u);
  for (const auto* weight : {quantised.get(), kept.get(), quantised.get(), quantised.get()}) {
    cpu->linear({x.view(), weight, {}, ActivationFn::none, {}, {out.view(), {}}});
  }
  EXPECT_EQ(work->all, 4u * 3 * 256 * 512);
  EXPECT_EQ(work->eight_bit, 3u * 3 * 256 * 512);
}

TEST_P(CpuInt8, AWeightThatIsNoNumberIsRefused) {
  Matrix w(DType::f32, 70, 20);
  w.fill(1);
  w.at(66, 3) = std::numeric_limits<float>::infinity();
  w.store();
  try {
    cpu->prepare_linear(w.view(), Precision::int8);
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::bad_data);
    EXPECT_NE(std::string(e.what()).find("66"), std::string::npos) << e.what();
  }
}

INSTANTIATE_TEST_SUITE_P(Ways, CpuInt8,
                         ::testing::Values(Way{"sse2", Precision::int8}, Way{"avx2", Precision::int8},
                                           Way{"avx512", Precision::int8}, Way{"avx512_vnni", Precision::int8},
                                           Way{"avx512_bf16", Precision::int8},
                                           Way{"amx_bf16", Precision::int8, GemmEngine::automatic}),
                         name_of);

}  // namespace
}  // namespace tandem::backend::test
