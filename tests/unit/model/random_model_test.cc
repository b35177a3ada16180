#include <cmath>

#include "model/weights.h"
#include "unit/model/model_test_util.h"

namespace tandem::model {
namespace {

TEST(RandomModel, PublishedShapes) {
  // Parameters as published: open_clip's model profile, in millions.
  const std::map<std::string_view, double> millions = {{"ViT-B-32", 151.28}, {"ViT-B-16", 149.62},
                                                       {"ViT-L-14", 427.62}, {"ViT-L-14-336", 427.94},
                                                       {"ViT-H-14", 986.11}, {"ViT-bigG-14", 2539.57}};
  ASSERT_EQ(random_architectures().size(), millions.size());
  for (const std::string_view name : random_architectures()) {
    const Config config = open_random(name, 0).config;
    std::int64_t parameters = 0;
    for (const WeightSpec& spec : weight_table(config)) parameters += spec.shape.elements();
    EXPECT_NEAR(static_cast<double>(parameters) / 1e6, millions.at(name), 0.01) << name;
    EXPECT_EQ(config.vision.width, config.vision.heads * config.vision.head_dim) << name;
    EXPECT_EQ(config.preprocess.fit.crop_height, config.vision.image_size) << name;
  }
  EXPECT_EQ(open_random("ViT-H-14", 0).config.vision.head_dim, 80);
  EXPECT_EQ(open_random("ViT-bigG-14", 0).config.vision.head_dim, 104);
  EXPECT_EQ(open_random("ViT-H-14", 0).config.vision.activation, backend::ActivationFn::gelu_erf);
  EXPECT_EQ(open_random("ViT-B-32", 0).config.vision.activation, backend::ActivationFn::quick_gelu);
  test::expect_error([] { open_random("ViT-X", 0); }, "not_found", {"ViT-X", "ViT-B-32"});
}

TEST(RandomModel, SameBitsFromSameSeedAndNothingElse) {
  const ModelFiles files = open_random("ViT-B-32", 5);
  const auto one = files.open_weights(), two = files.open_weights(), other = open_random("ViT-B-32", 6).open_weights();
  const std::string name = "text.blocks.3.mlp.fc1.weight";
  const ConstView a = one->get(name), b = two->get(name), c = other->get(name);
  EXPECT_EQ(std::memcmp(a.data, b.data, a.bytes()), 0);
  EXPECT_NE(std::memcmp(a.data, c.data, a.bytes()), 0);
  EXPECT_NE(std::memcmp(a.data, one->get("text.blocks.4.mlp.fc1.weight").data, a.bytes()), 0);
  EXPECT_EQ(one->hash(), two->hash());
  EXPECT_NE(one->hash(), other->hash());
  const std::vector<std::byte> before(a.data, a.data + a.bytes());
  one->release(name);
  EXPECT_EQ(std::memcmp(one->get(name).data, before.data(), before.size()), 0);
}

TEST(RandomModel, PinnedBits) {
  // These values must never change on any machine: figures measured with random models stay comparable.
  const auto source = open_random("ViT-B-32", 1).open_weights();
  const float* v = source->get("vision.blocks.0.attn.qkv.weight").as<float>();
  std::uint64_t digest = 0;
  for (int i = 0; i < 1000; ++i) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, v + i, 4);
    digest = digest * 1099511628211u + bits;
  }
  EXPECT_EQ(digest, 0x224782c4e51b2380u) << std::hex << digest;
}

TEST(RandomModel, NearNormalAtClipsScale) {
  const ModelFiles files = open_random("ViT-B-32", 2);
  const auto source = files.open_weights();
  const ConstView w = source->get("vision.blocks.7.attn.qkv.weight");
  const std::int64_t n = w.shape.elements();
  double sum = 0, square = 0, fourth = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const double x = w.as<float>()[i] * std::sqrt(768.0);
    sum += x, square += x * x, fourth += x * x * x * x;
  }
  const auto count = static_cast<double>(n);
  EXPECT_NEAR(sum / count, 0, 0.005);
  EXPECT_NEAR(square / count, 1, 0.005);
  EXPECT_NEAR(fourth / count, 2.7, 0.02);  // four uniform numbers: kurtosis 3 - 1.2 / 4
  EXPECT_NEAR(source->get("vision.ln_pre.weight").as<float>()[0], 1, 0.5);
  EXPECT_FLOAT_EQ(source->get("logit_scale").as<float>()[0], 2.6592F);
  WeightReader reader(files.config, *source);
  const auto table = weight_table(files.config);
  EXPECT_EQ(reader.read(table.front()).view.shape, table.front().shape);
}

}  // namespace
}  // namespace tandem::model
