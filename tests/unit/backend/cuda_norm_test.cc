// LayerNorm together with what reads it, on the CUDA backend against the reference: the two need not be two kernels.
#include <cmath>
#include <limits>

#include "unit/backend/cuda_support.h"

namespace tandem::backend::test {
namespace {

using tandem::test::product_tolerance;

class CudaNorm : public CudaTest {
 protected:
  struct Size {
    std::int64_t rows, inputs, outputs;
  };
  /// x: what both backends normalise, filled already. The weight's own rounding is not that of its product with gamma,
  /// so that both sides have an error of half a step of the type for every term.
  void compare(Size s, DeviceMatrix& x, ActivationFn fn, bool with_bias, float times = 1) {
    DeviceMatrix w(*cuda, type(), s.outputs, s.inputs), gamma(*cuda, DType::f32, 1, s.inputs);
    DeviceMatrix beta(*cuda, DType::f32, 1, s.inputs), bias(*cuda, DType::f32, 1, s.outputs);
    DeviceMatrix room(*cuda, type(), s.rows, s.inputs), out(*cuda, type(), s.rows, s.outputs);
    w.fill(2, 1 / std::sqrt(static_cast<float>(s.inputs))), gamma.fill(3), beta.fill(4), bias.fill(5), out.fill(6);
    const ConstView b = with_bias ? bias.host_vector() : ConstView();
    const auto mine = cuda->prepare_norm_linear(w.host(), b, gamma.host_vector(), beta.host_vector(), GetParam());
    const auto truth = reference->prepare_linear(w.reference(), Precision::fp32);
    const Tensor g = cuda->prepare_vector(gamma.host_vector()), t = cuda->prepare_vector(beta.host_vector());
    const Tensor add = cuda->prepare_vector(bias.host_vector());
    NormLinearArgs a;
    a.x = x.view(), a.gamma = g.view(), a.beta = t.view(), a.precision = GetParam(), a.weight = mine.get(), a.fn = fn;
    if (with_bias) a.bias = add.view();
    a.normalized.view = room.view(), a.out.view = out.view();
    cuda->norm_linear(a);
    std::vector<float> exact_room(static_cast<std::size_t>(s.rows * s.inputs));
    a.x = x.reference(), a.gamma = gamma.reference_vector(), a.beta = beta.reference_vector(), a.weight = truth.get();
    if (with_bias) a.bias = bias.reference_vector();
    a.precision = Precision::fp32, a.out.view = out.reference();
    a.normalized.view = {reinterpret_cast<std::byte*>(exact_room.data()), DType::f32, {s.rows, s.inputs}};
    reference->norm_linear(a);
    auto tolerance = product_tolerance(GetParam(), type(), s.inputs);
    tolerance.absolute *= 2 * times;
    expect_close(out, tolerance,
                 std::to_string(s.rows) + " x " + std::to_string(s.inputs) + " x " + std::to_string(s.outputs) + ", " +
                     std::to_string(static_cast<int>(fn)));
  }
  void compare(Size s, ActivationFn fn, bool with_bias = true, std::int64_t slack = 0) {
    DeviceMatrix x(*cuda, residual_type(), s.rows, s.inputs, s.inputs + slack);
    x.fill(1, 3);
    compare(s, x, fn, with_bias);
  }
};

/// One block's rows and many, widths that end within a stage, inputs divided among blocks, and what no fast kernel
/// takes.
TEST_P(CudaNorm, BeforeALinearLayer) {
  for (const Size s : {Size{1, 768, 640},
                       {1, 1024, 264},
                       {3, 1600, 72},
                       {10, 512, 128},
                       {50, 768, 520},
                       {65, 200, 96},
                       {130, 520, 328},
                       {300, 136, 2048},
                       {1300, 264, 328},
                       {7, 20, 60},
                       {5, 2056, 64},
                       {6, 64, 36}}) {
    compare(s, ActivationFn::none);
    compare(s, ActivationFn::none, false, 8);
    compare(s, ActivationFn::quick_gelu, true, 16);
    compare(s, ActivationFn::gelu_erf);
    compare(s, ActivationFn::gelu_tanh);
  }
}

/// Tiles that the edges cut, one tile of a block and several, fewer steps than a tile has parts and more.
TEST_P(CudaNorm, ManyTiles) {
  for (const std::int64_t rows : {129, 255, 256, 257, 2000}) {
    compare({rows, 64, 264}, ActivationFn::none);
    compare({rows, 392, 8}, ActivationFn::quick_gelu);
    compare({rows, 1096, 256}, ActivationFn::gelu_erf);
  }
  compare({9300, 72, 1032}, ActivationFn::quick_gelu);
  compare({700, 1024, 1160}, ActivationFn::none);
}

/// Rows whose deviation is a small part of their mean, rows of almost nothing, and channels far beyond the others, as
/// trained towers have them. The first cost what float32 takes of a mean square, and of the product's two halves.
TEST_P(CudaNorm, OutliersAndRowsFarFromZero) {
  for (const std::int64_t rows : {12, 700}) {
    for (const ActivationFn fn : {ActivationFn::none, ActivationFn::gelu_erf}) {
      const Size s{rows, 768, 512};
      DeviceMatrix x(*cuda, residual_type(), s.rows, s.inputs);
      x.fill(1);
      for (std::int64_t r = 0; r < rows; ++r) {
        if (r % 4 == 0) x.at(r, 5) *= 1000, x.at(r, 700) *= 100;
        for (std::int64_t c = 0; r % 4 == 1 && c < s.inputs; ++c) x.at(r, c) += 100;
        for (std::int64_t c = 0; r % 4 == 2 && c < s.inputs; ++c) x.at(r, c) *= 1e-2F;
      }
      x.store();
      compare(s, x, fn, true, 4);
    }
  }
}

TEST_P(CudaNorm, NotANumberStaysInItsRow) {
  for (const std::int64_t rows : {40, 600}) {
    DeviceMatrix x(*cuda, residual_type(), rows, 512), w(*cuda, type(), 128, 512), gamma(*cuda, DType::f32, 1, 512);
    DeviceMatrix room(*cuda, type(), rows, 512), out(*cuda, type(), rows, 128);
    x.fill(1), w.fill(2, 0.05F), gamma.fill(3);
    x.at(33, 17) = std::numeric_limits<float>::quiet_NaN();
    x.store();
    const auto weight = cuda->prepare_norm_linear(w.host(), {}, gamma.host_vector(), gamma.host_vector(), GetParam());
    const Tensor g = cuda->prepare_vector(gamma.host_vector());
    NormLinearArgs a;
    a.x = x.view(), a.gamma = a.beta = g.view(), a.weight = weight.get(), a.precision = GetParam();
    a.normalized.view = room.view(), a.out.view = out.view();
    cuda->norm_linear(a);
    out.fetch();
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < 128; ++c) ASSERT_EQ(std::isnan(out.got(r, c)), r == 33) << r << ", " << c;
    }
  }
}

TEST_P(CudaNorm, BeforeTheProjection) {
  for (const std::int64_t rows : {1, 3, 4, 5, 16, 17, 40, 64, 65, 200, 257}) {
    for (const auto& [inputs, outputs] : {std::pair<std::int64_t, std::int64_t>{768, 512},
                                          {1024, 768},
                                          {1280, 1024},
                                          {512, 512},
                                          {64, 24},
                                          {72, 3},
                                          {2048, 640},
                                          {36, 20},
                                          {2056, 64}}) {
      for (const bool normalize : {false, true}) {
        DeviceMatrix x(*cuda, residual_type(), rows, inputs), w(*cuda, DType::f32, outputs, inputs);
        DeviceMatrix gamma(*cuda, DType::f32, 1, inputs), beta(*cuda, DType::f32, 1, inputs);
        DeviceMatrix room(*cuda, DType::f32, rows, inputs), out(*cuda, DType::f32, rows, outputs);
        x.fill(1, 3), w.fill(2, 1 / std::sqrt(static_cast<float>(inputs))), gamma.fill(3), beta.fill(4);
        const auto mine = cuda->prepare_projection(w.host()), truth = reference->prepare_projection(w.reference());
        const Tensor g = cuda->prepare_vector(gamma.host_vector()), b = cuda->prepare_vector(beta.host_vector());
        cuda->norm_project({x.view(), g.view(), b.view(), 1e-5F, room.view(), mine.get(), normalize, out.view()});
        reference->norm_project({x.reference(), gamma.reference_vector(), beta.reference_vector(), 1e-5F,
                                 room.reference(), truth.get(), normalize, out.reference()});
        const std::string what =
            std::to_string(rows) + " x " + std::to_string(inputs) + " x " + std::to_string(outputs);
        auto tolerance = tandem::test::tolerance(DType::f32, inputs);
        tolerance.absolute *= 4;
        expect_close(out, tolerance, what);
        expect_close(room, tolerance, what + ", normalized");
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Precisions, CudaNorm, every_precision(), name_of);

}  // namespace
}  // namespace tandem::backend::test
