// The reference on every core computes the bits of the plain one.
#include "unit/backend/parallel_reference.h"

#include "unit/backend/attention_cases.h"

namespace tandem::backend::test {
namespace {

class ParallelReferenceTest : public ::testing::Test {
 protected:
  ParallelReference parallel;
  const std::unique_ptr<Backend> plain = make_reference_backend();
  static constexpr tandem::test::Tolerance kEqual{0, 0};
};

TEST_F(ParallelReferenceTest, LinearLayersWithGapsAndResidualsInPlace) {
  constexpr std::int64_t kRows = 301, kInputs = 130, kOutputs = 200;
  for (const Precision p : {Precision::fp32, Precision::int8}) {
    DeviceMatrix x(parallel, DType::f32, kRows, kInputs, kInputs + 3), w(parallel, DType::f32, kOutputs, kInputs);
    DeviceMatrix out(parallel, DType::f32, kRows, kOutputs, kOutputs + 5), bias(parallel, DType::f32, 1, kOutputs);
    DeviceMatrix gamma(parallel, DType::f32, 1, kInputs), room(parallel, DType::f32, kRows, kInputs);
    x.fill(1), w.fill(2), out.fill(3), bias.fill(4), gamma.fill(5);
    const auto weight = plain->prepare_linear(w.host(), p);
    const auto run = [&](Backend& backend, View from, View scratch, View to) {
      const ConstView g = gamma.reference_vector();
      backend.norm_linear({from,
                           g,
                           g,
                           1e-5F,
                           p,
                           weight.get(),
                           bias.reference_vector(),
                           ActivationFn::gelu_erf,
                           {scratch, {}},
                           {to, {}}});
      backend.linear({ConstOperand(from), weight.get(), {}, ActivationFn::quick_gelu, to, {to, {}}});
    };
    run(parallel, x.view(), room.view(), out.view());
    run(*plain, x.reference(), room.reference(), out.reference());
    expect_close(out, kEqual, "linear");
    expect_close(room, kEqual, "norm");
  }
}

TEST_F(ParallelReferenceTest, ProjectionsAndSimilarities) {
  DeviceMatrix x(parallel, DType::f32, 90, 256), gamma(parallel, DType::f32, 1, 256), w(parallel, DType::f32, 128, 256);
  DeviceMatrix room(parallel, DType::f32, 90, 256), out(parallel, DType::f32, 90, 128);
  DeviceMatrix alike(parallel, DType::f32, 90, 90);
  x.fill(1), gamma.fill(2), w.fill(3);
  const auto weight = plain->prepare_projection(w.host());
  const auto run = [&](Backend& backend, View from, View scratch, View to, View similar) {
    const ConstView g = gamma.reference_vector();
    backend.norm_project({from, g, g, 1e-5F, scratch, weight.get(), true, to});
    backend.similarity({to, to, 10, similar});
  };
  run(parallel, x.view(), room.view(), out.view(), alike.view());
  run(*plain, x.reference(), room.reference(), out.reference(), alike.reference());
  expect_close(out, kEqual, "projection"), expect_close(alike, kEqual, "similarity");
}

TEST_F(ParallelReferenceTest, Attention) {
  for (const AttentionCases& cases : {many_heads_and_sequences(), ragged_causal_texts(), shared_prefixes(),
                                      AttentionCases{{{577}, 1, 64}, {{200, 200, 200}, 2, 64, true, 5}}}) {
    for (const AttentionCase& c : cases) compare_attention(parallel, *plain, DType::f32, Precision::fp32, c, kEqual);
  }
}

}  // namespace
}  // namespace tandem::backend::test
