// Linear layers that become plain sums (int8, and E4M3 without Hopper's kernels) against the reference backend in the
// same precision. In int8 both find the same whole numbers.
#include <cmath>
#include <limits>

#include "base/strings.h"
#include "unit/backend/cuda_support.h"

namespace tandem::backend::test {
namespace {

using tandem::test::Tolerance;

struct SumWay {
  Precision precision;
  bool portable;
};

class CudaSums : public ::testing::TestWithParam<SumWay> {
 protected:
  struct Size {
    std::int64_t rows, inputs, outputs;
  };
  enum class Residual { none, in_place, apart };

  void SetUp() override {
    try {
      if (load_cuda_library().devices().empty()) GTEST_SKIP() << "no CUDA device";
      cuda = make_cuda_backend(0, {.portable = GetParam().portable});
      cuda->resolve(precision());
    } catch (const Error& error) {
      ASSERT_TRUE(!has_cuda_driver() || error.code() == Code::unsupported) << error.what();
      GTEST_SKIP() << error.what();
    }
  }
  Precision precision() const { return GetParam().precision; }
  bool whole() const { return precision() == Precision::int8; }
  /// Of results of order one from equal eight-bit numbers: f16's rounding, and of E4M3 sums of products of 32 that
  /// tensor cores keep some 14 bits of.
  Tolerance tolerance(std::int64_t inputs) const {
    if (whole()) return tandem::test::tolerance(DType::f16, 1);
    const float e = 0x1p-8F + static_cast<float>(inputs) * 0x1p-17F;
    return {e, 0x1p-8F};
  }
  /// What one number of a row of so many inputs may change in a result when it is rounded to its other neighbour: of a
  /// row up to 8, in steps of 8 / 127 or 8 / 16 (E4M3's largest), times a weight of up to 4 / sqrt(inputs).
  float one_step(std::int64_t inputs) const {
    return (whole() ? 8.0F / 127 : 8.0F / 16) * 4 / std::sqrt(static_cast<float>(inputs));
  }

  void compare(Size s, ActivationFn fn, Residual residual, bool with_bias, std::int64_t slack = 0, float step = 0) {
    DeviceMatrix x(*cuda, DType::f16, s.rows, s.inputs, s.inputs + slack), w(*cuda, DType::f32, s.outputs, s.inputs);
    DeviceMatrix b(*cuda, DType::f32, 1, s.outputs), r(*cuda, DType::f16, s.rows, s.outputs, s.outputs + 2 * slack);
    DeviceMatrix out(*cuda, DType::f16, s.rows, s.outputs, s.outputs + slack);
    x.fill(1), w.fill(2, 1 / std::sqrt(static_cast<float>(s.inputs))), b.fill(3), r.fill(4), out.fill(5);
    const auto mine = cuda->prepare_linear(w.host(), precision(), {step});
    const auto truth = reference.prepare_linear(w.reference(), precision(), {step});
    ASSERT_TRUE(mine->has_scales());
    EXPECT_EQ(mine->type(), whole() ? DType::i8 : DType::f8e4m3);
    EXPECT_EQ(mine->bytes(), static_cast<std::size_t>(s.inputs * s.outputs));
    const Tensor bias = cuda->prepare_vector(b.host_vector());
    const auto run = [&](Backend& backend, bool exact) {
      LinearArgs a;
      a.fn = fn, a.x = ConstOperand(exact ? x.reference() : x.view()), a.weight = exact ? truth.get() : mine.get();
      if (with_bias) a.bias = exact ? ConstView(b.reference_vector()) : ConstView(bias.view());
      a.out.view = exact ? out.reference() : out.view();
      if (residual == Residual::in_place) a.residual = a.out.view;
      if (residual == Residual::apart) a.residual = exact ? r.reference() : r.view();
      backend.linear(a);
    };
    run(*cuda, false), run(reference, true);
    expect_close(out, tolerance(s.inputs),
                 cat(s.rows, " x ", s.inputs, " x ", s.outputs, ", fn ", static_cast<int>(fn), ", residual ",
                     static_cast<int>(residual), ", step ", step));
  }

  std::unique_ptr<Backend> cuda;
  ParallelReference reference;
};

TEST_P(CudaSums, EveryActivationAndResidual) {
  for (const ActivationFn fn :
       {ActivationFn::none, ActivationFn::quick_gelu, ActivationFn::gelu_erf, ActivationFn::gelu_tanh}) {
    for (const Residual residual : {Residual::none, Residual::in_place, Residual::apart}) {
      compare({5, 64, 96}, fn, residual, true);
      compare({70, 128, 528}, fn, residual, residual == Residual::apart, 8);
      compare({301, 256, 1552}, fn, residual, true);
    }
  }
}

/// Fewer rows than the library multiplies at once, numbers of rows that it does not take, and more than fit at a time.
TEST_P(CudaSums, EveryNumberOfRows) {
  for (const std::int64_t rows : {1, 2, 3, 15, 16, 17, 31, 32, 33, 50, 63, 257, 577}) {
    compare({rows, 768, 64}, ActivationFn::none, Residual::in_place, true);
  }
  compare({9001, 64, 2064}, ActivationFn::none, Residual::in_place, true);
  compare({70'003, 64, 16}, ActivationFn::quick_gelu, Residual::apart, true, 8);
}

TEST_P(CudaSums, ShapesOfTheModels) {
  for (const Size s : {Size{50, 768, 2304}, {257, 1280, 1280}, {577, 1024, 1024}, {300, 3072, 768}, {77, 512, 2048}}) {
    compare(s, ActivationFn::none, Residual::none, true);
  }
}

/// What calibration chose, also where it cuts the largest off.
TEST_P(CudaSums, StaticScales) {
  for (const float most : {1.5F, 6.0F}) {
    const float step = most / (whole() ? 127 : 448);
    compare({70, 128, 528}, ActivationFn::none, Residual::in_place, true, 0, step);
    compare({700, 512, 64}, ActivationFn::gelu_erf, Residual::none, true, 8, step);
  }
}

TEST_P(CudaSums, WeightsOfNoKernelStaySixteenBits) {
  DeviceMatrix w(*cuda, DType::f32, 24, 20);
  w.fill(1);
  EXPECT_FALSE(cuda->prepare_linear(w.host(), precision())->has_scales());
  EXPECT_EQ(cuda->kept(precision()), Precision::fp16);
  EXPECT_EQ(cuda->types(precision()).activation, DType::f16);
}

/// Of few rows and of many, of every width that a warp takes and of one that it does not; a layer's own static scale.
TEST_P(CudaSums, NormAndProduct) {
  for (const Size s : {Size{1, 768, 640},
                       {50, 768, 528},
                       {300, 1024, 272},
                       {33, 1280, 64},
                       {20, 2048, 64},
                       {9, 2064, 64},
                       {5000, 64, 2064}}) {
    for (const ActivationFn fn : {ActivationFn::none, ActivationFn::quick_gelu}) {
      for (const float step : {0.0F, 8.0F / (whole() ? 127 : 448)}) {
        DeviceMatrix x(*cuda, DType::f16, s.rows, s.inputs), w(*cuda, DType::f32, s.outputs, s.inputs);
        DeviceMatrix gamma(*cuda, DType::f32, 1, s.inputs), beta(*cuda, DType::f32, 1, s.inputs);
        DeviceMatrix bias(*cuda, DType::f32, 1, s.outputs), room(*cuda, DType::f16, s.rows, s.inputs),
            out(*cuda, DType::f16, s.rows, s.outputs);
        Matrix exact_room(DType::f32, s.rows, s.inputs);
        x.fill(1, 3), w.fill(2, 1 / std::sqrt(static_cast<float>(s.inputs))), gamma.fill(3, 0.5F), beta.fill(4, 0.5F);
        bias.fill(5);
        for (std::int64_t r = 0; r < s.rows; r += 4) x.at(r, 5) *= 8;
        x.store();
        const auto mine = cuda->prepare_norm_linear(w.host(), bias.host_vector(), gamma.host_vector(),
                                                    beta.host_vector(), precision(), {step});
        ASSERT_TRUE(mine->has_scales());
        const auto truth = reference.prepare_linear(w.reference(), precision(), {step});
        const Tensor g = cuda->prepare_vector(gamma.host_vector()), t = cuda->prepare_vector(beta.host_vector());
        const Tensor b = cuda->prepare_vector(bias.host_vector());
        cuda->norm_linear({x.view(),
                           g.view(),
                           t.view(),
                           1e-5F,
                           precision(),
                           mine.get(),
                           b.view(),
                           fn,
                           {room.view(), {}},
                           {out.view(), {}}});
        reference.norm_linear({x.reference(),
                               gamma.reference_vector(),
                               beta.reference_vector(),
                               1e-5F,
                               precision(),
                               truth.get(),
                               bias.reference_vector(),
                               fn,
                               {exact_room.reference(), {}},
                               {out.reference(), {}}});
        // The norm in float32, or in f16 where it is a kernel of its own, may round to the other neighbour.
        Tolerance near = tolerance(s.inputs);
        near.absolute += one_step(s.inputs) * (s.inputs > 2048 ? 16 : 2);
        expect_close(out, near, cat(s.rows, " x ", s.inputs, " x ", s.outputs, ", step ", step));
      }
    }
  }
}

/// Attention and the MLP as a block has them, with every operation's reader named: what one leaves the next one reads.
TEST_P(CudaSums, ABlock) {
  for (const std::int64_t length : {50, 257}) {
    const std::int64_t heads = 4, width = 64 * heads, count = 3, rows = count * length, mlp = 4 * width;
    DeviceMatrix x(*cuda, DType::f16, rows, width), gamma(*cuda, DType::f32, 1, width);
    DeviceMatrix beta(*cuda, DType::f32, 1, width), room(*cuda, DType::f16, rows, width);
    DeviceMatrix wide(*cuda, DType::f16, rows, mlp), b(*cuda, DType::f32, 1, mlp);
    Matrix exact_room(DType::f32, rows, width), exact_wide(DType::f32, rows, mlp);
    x.fill(1), gamma.fill(2, 0.5F), beta.fill(3, 0.1F), b.fill(4, 0.1F);
    const Tensor g = cuda->prepare_vector(gamma.host_vector()), t = cuda->prepare_vector(beta.host_vector());
    const auto run = [&](Backend& backend, View stream, View scratch, View all, ConstView norm_gamma,
                         ConstView norm_beta) {
      const auto weight = [&](unsigned seed, std::int64_t outputs, std::int64_t inputs, bool normed) {
        Matrix w(DType::f32, outputs, inputs), bias(DType::f32, 1, outputs);
        w.fill(seed, 1 / std::sqrt(static_cast<float>(inputs)));
        if (!normed) return backend.prepare_linear(w.host(), precision());
        return backend.prepare_norm_linear(w.host(), bias.host_vector(), gamma.host_vector(), beta.host_vector(),
                                           precision());
      };
      const auto qkv = weight(11, 3 * width, width, true), out = weight(12, width, width, false);
      const auto fc1 = weight(13, mlp, width, true), fc2 = weight(14, width, mlp, false);
      const View three{all.data, all.dtype, {rows, 3 * width}};
      backend.norm_linear({stream,
                           norm_gamma,
                           norm_beta,
                           1e-5F,
                           precision(),
                           qkv.get(),
                           {},
                           ActivationFn::none,
                           {scratch, {}},
                           {three, {}}});
      AttentionArgs a;
      a.q = three.column_range(0, width), a.k = three.column_range(width, width);
      a.v = three.column_range(2 * width, width), a.out = scratch;
      a.queries = a.keys = {count, length, rows, nullptr};
      a.heads = static_cast<int>(heads), a.head_dim = 64, a.precision = precision(), a.reader = out.get();
      backend.attention(a);
      backend.linear({ConstOperand(scratch), out.get(), {}, ActivationFn::none, stream, {stream, {}}, fc1.get()});
      backend.norm_linear({stream,
                           norm_gamma,
                           norm_beta,
                           1e-5F,
                           precision(),
                           fc1.get(),
                           {},
                           ActivationFn::quick_gelu,
                           {scratch, {}},
                           {all, {}},
                           fc2.get()});
      backend.linear({ConstOperand(all), fc2.get(), {}, ActivationFn::none, stream, {stream, {}}});
    };
    run(*cuda, x.view(), room.view(), wide.view(), g.view(), t.view());
    run(reference, x.reference(), exact_room.reference(), exact_wide.reference(), gamma.reference_vector(),
        beta.reference_vector());
    // Four layers, each with some numbers rounded to their other neighbour.
    Tolerance near = tolerance(mlp);
    near.absolute += 8 * one_step(width);
    expect_close(x, near, cat("sequences of ", length));
    double error = 0, size = 0;
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < width; ++c) {
        error += std::pow(x.got(r, c) - x.at(r, c), 2), size += std::pow(x.at(r, c), 2);
      }
    }
    EXPECT_LE(std::sqrt(error / size), whole() ? 0.01 : 0.03) << "sequences of " << length;
  }
}

TEST_P(CudaSums, NotANumberStaysInItsRow) {
  for (const std::int64_t rows : {9, 700}) {
    DeviceMatrix x(*cuda, DType::f16, rows, 512), w(*cuda, DType::f32, 1040, 512), out(*cuda, DType::f16, rows, 1040);
    DeviceMatrix gamma(*cuda, DType::f32, 1, 512), room(*cuda, DType::f16, rows, 512);
    x.fill(1), w.fill(2, 0.05F), gamma.fill(3);
    x.at(4, 11) = std::numeric_limits<float>::quiet_NaN(), x.at(6, 40) = std::numeric_limits<float>::infinity();
    x.store();
    const auto weight = cuda->prepare_linear(w.host(), precision());
    const auto normed = cuda->prepare_norm_linear(w.host(), {}, gamma.host_vector(), gamma.host_vector(), precision());
    const Tensor g = cuda->prepare_vector(gamma.host_vector());
    for (const ActivationFn fn : {ActivationFn::none, ActivationFn::quick_gelu, ActivationFn::gelu_erf}) {
      for (const bool norm : {false, true}) {
        if (norm) {
          cuda->norm_linear({x.view(),
                             g.view(),
                             g.view(),
                             1e-5F,
                             precision(),
                             normed.get(),
                             {},
                             fn,
                             {room.view(), {}},
                             {out.view(), {}}});
        } else {
          cuda->linear({x.view(), weight.get(), {}, fn, {}, {out.view(), {}}});
        }
        out.fetch();
        for (std::int64_t r = 0; r < rows; ++r) {
          for (std::int64_t c = 0; c < 1040; ++c) {
            ASSERT_EQ(std::isnan(out.got(r, c)), r == 4 || r == 6) << r << ", " << c << ", norm " << norm;
          }
        }
      }
    }
  }
}

TEST_P(CudaSums, EightBitWorkIsCounted) {
  const auto work = cuda->linear_work();
  const std::uint64_t before = work->all, eight = work->eight_bit;
  compare({5, 64, 96}, ActivationFn::none, Residual::none, true);
  EXPECT_EQ(work->all - before, 5U * 64 * 96);
  EXPECT_EQ(work->eight_bit - eight, 5U * 64 * 96);
}

TEST_P(CudaSums, TuningIsTakenOver) {
  const auto all = [&] {
    compare({96, 64, 144}, ActivationFn::none, Residual::in_place, true);
    compare({2000, 512, 1168}, ActivationFn::gelu_erf, Residual::none, true);
    compare({40, 2048, 64}, ActivationFn::none, Residual::none, true);  // splits are tried
  };
  cuda->start_tuning();
  all();
  const std::string text = cuda->tuned();
  cuda = make_cuda_backend(0, {.portable = GetParam().portable});
  EXPECT_EQ(cuda->take_tuned(text), 3) << text;
  all();
}

std::string name_of_way(const ::testing::TestParamInfo<SumWay>& info) {
  return cat(to_string(info.param.precision), info.param.portable ? "_portable" : "");
}

INSTANTIATE_TEST_SUITE_P(Ways, CudaSums,
                         ::testing::Values(SumWay{Precision::int8, false}, SumWay{Precision::int8, true},
                                           SumWay{Precision::fp8, true}),
                         name_of_way);

}  // namespace
}  // namespace tandem::backend::test
