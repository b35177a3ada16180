// The reference against values worked out by hand or by the definition, so that the truth itself is checked.
#include "backend/reference/reference_backend.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace tandem::backend {
namespace {

View view(std::vector<float>& v, Shape shape) {
  return {reinterpret_cast<std::byte*>(v.data()), DType::f32, shape};
}

TEST(Reference, SaysHowAWeightIsStoredAndHasNoStream) {
  auto backend = make_reference_backend();
  std::vector<float> w{1, 2, 3, 4, 5, 6};
  const auto prepared = backend->prepare_linear(view(w, {2, 3}), Precision::fp32);
  EXPECT_EQ(prepared->type(), DType::f32);
  EXPECT_EQ(prepared->packing(), "rows");
  EXPECT_FALSE(prepared->has_scales());
  EXPECT_EQ(prepared->bytes(), 24u);
  EXPECT_EQ(backend->stream(), nullptr);
}

TEST(Reference, LayerNormHasMeanBetaAndVarianceGamma) {
  auto backend = make_reference_backend();
  std::vector<float> x{1, 2, 3, 4}, gamma{2, 2, 2, 2}, beta{1, 1, 1, 1}, out(4);
  backend->layer_norm({view(x, {1, 4}), view(gamma, {4}), view(beta, {4}), 0.0F, {view(out, {1, 4}), {}}});
  const float s = std::sqrt(1.25F);
  for (int i = 0; i < 4; ++i)
    EXPECT_NEAR(out[static_cast<std::size_t>(i)], 2 * (x[static_cast<std::size_t>(i)] - 2.5F) / s + 1, 1e-6);
}

TEST(Reference, LinearAddsBiasActivatesThenAddsResidual) {
  auto backend = make_reference_backend();
  std::vector<float> w{1, 2, 3, 4}, bias{0.5F, -20}, x{1, 1}, residual{10, 20}, out(2);
  const auto prepared = backend->prepare_linear(view(w, {2, 2}), Precision::fp32);
  LinearArgs args{ConstOperand(view(x, {1, 2})), prepared.get(),         view(bias, {2}),
                  ActivationFn::quick_gelu,      view(residual, {1, 2}), {view(out, {1, 2}), {}}};
  backend->linear(args);
  EXPECT_NEAR(out[0], 3.5 / (1 + std::exp(-1.702 * 3.5)) + 10, 1e-6);
  EXPECT_NEAR(out[1], -13 / (1 + std::exp(1.702 * 13)) + 20, 1e-6);
  args.fn = ActivationFn::gelu_erf;
  backend->linear(args);
  EXPECT_NEAR(out[0], 3.5 * 0.5 * std::erfc(-3.5 / std::sqrt(2.0)) + 10, 1e-6);
}

TEST(Reference, Int8RoundsWeightsPerOutputAndInputsPerRow) {
  auto backend = make_reference_backend();
  EXPECT_EQ(backend->resolve(Precision::int8), Precision::int8);
  // Scales 1 and 2: whole numbers 127, -3 and 64 (of 63.5, to even), 127. Inputs of step 0.5: 127, 2 (of 1.5) and 0.
  std::vector<float> w{127, -3.4F, 0, 127, 254, 0}, bias{0, 1}, x{63.5F, 0.75F, 0.1F}, out(2);
  const auto prepared = backend->prepare_linear(view(w, {2, 3}), Precision::int8);
  LinearArgs args{ConstOperand(view(x, {1, 3})), prepared.get(), view(bias, {2}), ActivationFn::none, {},
                  {view(out, {1, 2}), {}}};
  backend->linear(args);
  EXPECT_FLOAT_EQ(out[0], 0.5F * (127 * 127 - 3 * 2));
  EXPECT_FLOAT_EQ(out[1], 0.5F * 2 * (64 * 127 + 127 * 2) + 1);
  // A static step of 0.25 cuts at 31.75.
  const auto fixed = backend->prepare_linear(view(w, {2, 3}), Precision::int8, {0.25F});
  args.weight = fixed.get();
  backend->linear(args);
  EXPECT_FLOAT_EQ(out[0], 0.25F * (127 * 127 - 3 * 3));
}

TEST(Reference, Fp8RoundsToE4m3) {
  auto backend = make_reference_backend();
  EXPECT_EQ(backend->resolve(Precision::fp8), Precision::fp8);
  EXPECT_EQ(backend->kept(Precision::fp8), Precision::fp32);
  // Scales 1 and 2. 300 lies between 288 and 320, 3.3 between 3.25 and 3.5; inputs have the step 0.5: 448, 1.5 and 0.2,
  // which lies between 0.1875 and 0.203125.
  std::vector<float> w{448, 300, 3.3F, -896, 2, 0}, bias{0, 1}, x{224, 0.75F, 0.1F}, out(2);
  const auto prepared = backend->prepare_linear(view(w, {2, 3}), Precision::fp8);
  LinearArgs args{ConstOperand(view(x, {1, 3})), prepared.get(), view(bias, {2}), ActivationFn::none, {},
                  {view(out, {1, 2}), {}}};
  backend->linear(args);
  EXPECT_FLOAT_EQ(out[0], 0.5F * (448 * 448 + 1.5F * 288 + 0.203125F * 3.25F));
  EXPECT_FLOAT_EQ(out[1], 0.5F * 2 * (-448 * 448 + 1.5F * 1) + 1);
  // A static step of 0.25 cuts at 112.
  const auto fixed = backend->prepare_linear(view(w, {2, 3}), Precision::fp8, {0.25F});
  args.weight = fixed.get();
  backend->linear(args);
  EXPECT_FLOAT_EQ(out[0], 0.25F * (448 * 448 + 3 * 288 + 0.40625F * 3.25F));
  // Weights' steps: 0.5 cuts the first output at 224, where 300 goes too; a step of 0 is none.
  std::vector<float> steps{0.5F, 0};
  const auto given = backend->prepare_linear(view(w, {2, 3}), Precision::fp8, {0.25F, view(steps, {2})});
  args.weight = given.get();
  backend->linear(args);
  EXPECT_FLOAT_EQ(out[0], 0.25F * (448 * 224 + 3 * 224 + 0.40625F * 3.25F));
  EXPECT_FLOAT_EQ(out[1], 0.25F * 2 * (-448 * 448 + 3 * 1) + 1);
}

TEST(Reference, PrefixedCausalAttentionEqualsTheWholeSequence) {
  auto backend = make_reference_backend();
  constexpr int kRows = 5, kDim = 3, kPrefix = 2;
  std::vector<float> qkv(kRows * 3 * kDim), whole(kRows * kDim), part((kRows - kPrefix) * kDim);
  for (std::size_t i = 0; i < qkv.size(); ++i) qkv[i] = std::sin(static_cast<float>(i * i));
  const ConstView all = view(qkv, {kRows, 3 * kDim});
  AttentionArgs a;
  a.q = all.column_range(0, kDim), a.k = all.column_range(kDim, kDim), a.v = all.column_range(2 * kDim, kDim);
  a.queries = a.keys = {1, kRows, kRows, nullptr};
  a.heads = 1, a.head_dim = kDim, a.causal = true, a.out = view(whole, {kRows, kDim});
  backend->attention(a);
  AttentionArgs b = a;
  b.prefix_k = a.k.row_range(0, kPrefix), b.prefix_v = a.v.row_range(0, kPrefix);
  b.q = a.q.row_range(kPrefix, kRows - kPrefix), b.k = a.k.row_range(kPrefix, kRows - kPrefix),
  b.v = a.v.row_range(kPrefix, kRows - kPrefix);
  b.queries = b.keys = {1, kRows - kPrefix, kRows - kPrefix, nullptr};
  b.out = view(part, {kRows - kPrefix, kDim});
  backend->attention(b);
  for (std::size_t i = 0; i < part.size(); ++i) EXPECT_EQ(part[i], whole[kPrefix * kDim + i]);
  EXPECT_EQ(whole[0], qkv[2 * kDim]);  // the first query sees one value only
}

TEST(Reference, PatchEmbedFoldsTheNormalisation) {
  auto backend = make_reference_backend();
  constexpr int kPatch = 2, kSide = 4, kWidth = 2;
  std::vector<float> w(kWidth * 3 * kPatch * kPatch), cls{100, 200}, position(5 * kWidth), out(5 * kWidth);
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = std::cos(static_cast<float>(i));
  for (std::size_t i = 0; i < position.size(); ++i) position[i] = static_cast<float>(i);
  std::vector<std::uint8_t> pixels(kSide * kSide * 3);
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<std::uint8_t>(i * 37);
  const float mean[] = {0.4F, 0.5F, 0.6F}, std[] = {0.2F, 0.25F, 0.3F};
  const auto prepared =
      backend->prepare_patch_embed(view(w, {kWidth, 3, kPatch, kPatch}), {}, mean, std, 1.0F / 255, Precision::fp32);
  PatchEmbedArgs a;
  a.pixels = {reinterpret_cast<std::byte*>(pixels.data()), DType::u8, {1, kSide, kSide, 3}};
  a.weight = prepared.get(), a.class_embedding = view(cls, {kWidth}), a.position = view(position, {5, kWidth});
  a.out = view(out, {5, kWidth}), a.patch = kPatch;
  backend->patch_embed(a);
  EXPECT_EQ(out[0], 100);
  for (int t = 0; t < 4; ++t) {
    for (int n = 0; n < kWidth; ++n) {
      double want = position[static_cast<std::size_t>((t + 1) * kWidth + n)];
      for (int c = 0; c < 3; ++c) {
        for (int y = 0; y < kPatch; ++y) {
          for (int x = 0; x < kPatch; ++x) {
            const auto p = pixels[static_cast<std::size_t>(((t / 2 * 2 + y) * kSide + t % 2 * 2 + x) * 3 + c)];
            want +=
                w[static_cast<std::size_t>(((n * 3 + c) * kPatch + y) * kPatch + x)] * (p / 255.0 - mean[c]) / std[c];
          }
        }
      }
      EXPECT_NEAR(out[static_cast<std::size_t>((t + 1) * kWidth + n)], want, 1e-5);
    }
  }
}

TEST(Reference, ChecksRefuseWrongShapes) {
  auto backend = make_reference_backend();
  std::vector<float> x(4), gamma(3), out(4);
  EXPECT_THROW(
      backend->layer_norm({view(x, {1, 4}), view(gamma, {3}), view(gamma, {3}), 0.0F, {view(out, {1, 4}), {}}}), Error);
}

}  // namespace
}  // namespace tandem::backend
