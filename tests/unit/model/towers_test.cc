// The forward pass on every backend against what transformers and open_clip compute, block by block. The golden files
// and the script that made them are in tests/golden.
#include "model/towers.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "backend/cpu/cpu_backend.h"
#include "backend/cuda/loader.h"
#include "backend/reference/reference_backend.h"
#include "base/strings.h"
#include "model/model.h"
#include "source_dir.h"
#include "tolerance.h"

namespace tandem::model {
namespace {

struct Case {
  const char* folder;
  const char* device;
  Precision precision;
};

std::string case_name(const testing::TestParamInfo<Case>& info) {
  return cat(info.param.folder, "_", info.param.device, "_", to_string(info.param.precision));
}

std::unique_ptr<backend::Backend> make(const Case& c) {
  if (std::strcmp(c.device, "reference") == 0) return backend::make_reference_backend();
  if (std::strcmp(c.device, "cuda") == 0) return backend::make_cuda_backend(0);
  return backend::make_cpu_backend({2, false, ""});
}

class Towers : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    folder_ = test::source_dir() / "tests/golden/tiny" / GetParam().folder;
    try {
      backend_ = make(GetParam());
      backend_->resolve(GetParam().precision);
    } catch (const Error& error) {
      GTEST_SKIP() << "this device cannot: " << error.what();
    }
    model_ = load_model(open_folder(folder_), *backend_, {GetParam().precision, true, true});
    golden_ = open_safetensors({folder_ / "goldens.safetensors"});
    arena_ = Arena(backend_->allocate(std::size_t{64} << 20));
  }

  Execution execution() { return {*backend_, arena_, alone_, model_.precision}; }

  std::vector<float> floats(ConstView v) {
    const Tensor stored = host_tensor(v.dtype, v.shape);
    backend_->download(v, stored.view().data);
    std::vector<float> out(static_cast<std::size_t>(v.shape.elements()));
    convert(stored.view(), {reinterpret_cast<std::byte*>(out.data()), DType::f32, v.shape});
    return out;
  }
  Tensor golden_pixels() {
    const ConstView host = golden_->get("pixels");
    Tensor out(backend_->allocate(host.bytes()), host.dtype, host.shape);
    backend_->upload(host.data, out.view());
    return out;
  }
  std::vector<float> wanted(const std::string& name) {
    const ConstView v = golden_->get(name);
    return {v.as<float>(), v.as<float>() + v.shape.elements()};
  }
  void compare(const std::vector<float>& got, const std::vector<float>& want, const std::string& what) {
    ASSERT_EQ(got.size(), want.size()) << what;
    EXPECT_GE(test::cosine(got, want), test::least_cosine(model_.precision)) << what;
    if (model_.precision == Precision::fp32) {
      EXPECT_LE(test::largest_difference(got, want), 2e-5) << what;
    }
  }
  std::vector<std::vector<std::int32_t>> texts() {
    std::vector<std::vector<std::int32_t>> out;
    for (int k = 0;; ++k) {
      const std::string name = cat("text.", k, ".ids");
      if (!golden_->find(name)) return out;
      const ConstView v = golden_->get(name);
      out.emplace_back(v.as<std::int32_t>(), v.as<std::int32_t>() + v.shape.elements());
    }
  }

  std::filesystem::path folder_;
  std::unique_ptr<backend::Backend> backend_;
  Model model_;
  std::unique_ptr<WeightSource> golden_;
  Arena arena_;
  parallel::Alone alone_;
};

TEST_P(Towers, ImagesEqualTheReferenceAfterEveryBlock) {
  auto ex = execution();
  const auto& c = model_.config.vision;
  PassOptions pass;
  pass.observer = [&](int block, ConstView x) {
    const std::string name = block < 0 ? "vision.pre_norm" : cat("vision.block_", block, ".out");
    auto want = wanted(name);
    if (block == c.layers - 1) {  // only the class tokens were computed
      const auto width = static_cast<std::size_t>(c.width), tokens = static_cast<std::size_t>(c.tokens());
      std::vector<float> rows;
      for (std::size_t at = 0; at < want.size(); at += tokens * width) {
        rows.insert(rows.end(), want.begin() + static_cast<std::ptrdiff_t>(at),
                    want.begin() + static_cast<std::ptrdiff_t>(at + width));
      }
      want = rows;
    }
    compare(floats(x), want, name);
  };
  pass.normalize = false;
  const Tensor pixels = golden_pixels();
  auto out = encode_images(ex, c, *model_.vision, model_.config.embed_dim, pixels.view(), pass);
  compare(floats(out.pooled), wanted("vision.pooled"), "pooled");
  compare(floats(out.projected), wanted("vision.projected"), "projected");
  out = encode_images(ex, c, *model_.vision, model_.config.embed_dim, pixels.view(), {});
  compare(floats(out.projected), wanted("vision.projected_normalized"), "normalized");
}

TEST_P(Towers, TextsEqualTheReferenceAloneAndPacked) {
  auto ex = execution();
  const auto& c = model_.config.text;
  const auto ids = texts();
  ASSERT_GE(ids.size(), 4u);
  const auto want = wanted("text.projected"), want_pooled = wanted("text.pooled");
  const auto dim = static_cast<std::size_t>(model_.config.embed_dim), width = static_cast<std::size_t>(c.width);
  PackedTexts packed;
  PassOptions pass;
  pass.normalize = false;
  for (std::size_t k = 0; k < ids.size(); ++k) {
    const std::span<const std::int32_t> one = ids[k];
    pack_texts(c, {&one, 1}, true, packed);
    EXPECT_EQ(packed.prefix, 0);
    pass.observer = [&](int block, ConstView x) {
      if (block == c.layers - 1) return;
      const std::string name = block < 0 ? cat("text.", k, ".embed") : cat("text.", k, ".block_", block, ".out");
      auto all = wanted(name);
      all.resize(static_cast<std::size_t>(x.shape.elements()));  // what stands after the pooled row was not computed
      compare(floats(x), all, name);
    };
    const auto out = encode_texts(ex, c, *model_.text, model_.config.embed_dim, packed, pass);
    compare(floats(out.pooled),
            {want_pooled.begin() + static_cast<std::ptrdiff_t>(k * width),
             want_pooled.begin() + static_cast<std::ptrdiff_t>((k + 1) * width)},
            cat("pooled ", k));
    compare(floats(out.projected),
            {want.begin() + static_cast<std::ptrdiff_t>(k * dim),
             want.begin() + static_cast<std::ptrdiff_t>((k + 1) * dim)},
            cat("text ", k));
  }
  pass.observer = {};
  const std::vector<std::span<const std::int32_t>> all(ids.begin(), ids.end());
  for (const bool share : {false, true, true}) {
    const bool padded = packed.prefix > 0;  // the third time
    pack_texts(c, all, share, packed);
    EXPECT_EQ(packed.prefix > 0, share);
    const std::int64_t rows = packed.rows();
    if (padded) pad_texts(c, rows + 16, packed);
    EXPECT_EQ(packed.rows(), padded ? (rows + 15) / 16 * 16 : rows);
    const auto out = encode_texts(ex, c, *model_.text, model_.config.embed_dim, packed, pass);
    const auto got = floats(out.projected);
    for (std::size_t k = 0; k < ids.size(); ++k) {
      const auto part = [&](const std::vector<float>& v) {
        return std::vector<float>(v.begin() + static_cast<std::ptrdiff_t>(k * dim),
                                  v.begin() + static_cast<std::ptrdiff_t>((k + 1) * dim));
      };
      compare(part(got), part(want), cat("packed ", k, share ? " sharing a prefix" : ""));
    }
  }
}

TEST_P(Towers, LogitsEqualTheReference) {
  auto ex = execution();
  const auto& c = model_.config;
  const Tensor pixels = golden_pixels();
  auto images = encode_images(ex, c.vision, *model_.vision, c.embed_dim, pixels.view(), {});
  const auto vectors = floats(images.projected);
  const Tensor a = backend_->prepare_vector(
      {reinterpret_cast<const std::byte*>(vectors.data()), DType::f32, images.projected.shape});
  const auto ids = texts();
  const std::vector<std::span<const std::int32_t>> all(ids.begin(), ids.end());
  PackedTexts packed;
  pack_texts(c.text, all, true, packed);
  const auto out = encode_texts(ex, c.text, *model_.text, c.embed_dim, packed, {});
  Tensor logits(backend_->allocate(static_cast<std::size_t>(a.shape().rows()) * ids.size() * 4), DType::f32,
                {a.shape().rows(), static_cast<std::int64_t>(ids.size())});
  backend_->similarity({a.view(), out.projected, model_.logit_scale, logits.view()});
  compare(floats(logits.view()), wanted("logits"), "logits");
}

std::vector<Case> cases() {
  std::vector<Case> out;
  for (const char* folder : {"hf_quickgelu", "hf_gelu_head80", "hf_bf16_sharded", "hf_legacy_bin", "openclip_gelu",
                             "openclip_quickgelu_bin"}) {
#ifdef TANDEM_TEST_CUDA
    for (const Precision p : {Precision::fp32, Precision::tf32, Precision::fp16, Precision::bf16, Precision::fp8}) {
      out.push_back({folder, "cuda", p});
    }
#else
    out.push_back({folder, "reference", Precision::fp32});
    out.push_back({folder, "cpu", Precision::fp32});
    out.push_back({folder, "cpu", Precision::bf16});
    out.push_back({folder, "cpu", Precision::int8});
    out.push_back({folder, "reference", Precision::int8});
#endif
  }
  return out;
}

INSTANTIATE_TEST_SUITE_P(Every, Towers, testing::ValuesIn(cases()), case_name);

TEST(PackTexts, SharesTheLongestCommonBeginningButNeverThePooledRow) {
  TextConfig c;
  c.end_id = 9;
  const std::vector<std::vector<std::int32_t>> ids{{8, 1, 2, 3, 9}, {8, 1, 2, 9}, {8, 1, 2, 4, 5, 9, 7, 7}};
  const std::vector<std::span<const std::int32_t>> texts(ids.begin(), ids.end());
  PackedTexts p;
  pack_texts(c, texts, true, p);
  EXPECT_EQ(p.prefix, 3);
  EXPECT_EQ(p.ids, (std::vector<std::int32_t>{8, 1, 2, 3, 9, 9, 4, 5, 9}));
  EXPECT_EQ(p.positions, (std::vector<std::int32_t>{0, 1, 2, 3, 4, 3, 3, 4, 5}));
  EXPECT_EQ(p.offsets, (std::vector<std::int32_t>{0, 2, 3, 6}));
  EXPECT_EQ(p.pooled, (std::vector<std::int32_t>{4, 5, 8}));
  EXPECT_EQ(p.longest, 3);
  const std::vector<std::span<const std::int32_t>> same{texts[1], texts[1]};
  pack_texts(c, same, true, p);
  EXPECT_EQ(p.prefix, 3);
  EXPECT_EQ(p.pooled, (std::vector<std::int32_t>{3, 4}));
}

TEST(PooledPosition, FollowsBothRules) {
  TextConfig c;
  c.end_id = 9;
  const std::vector<std::int32_t> ids{8, 1, 9, 50, 9};
  EXPECT_EQ(pooled_position(c, ids), 2u);
  c.pool_rule = text::PoolRule::largest_id;
  EXPECT_EQ(pooled_position(c, ids), 3u);
  c.pool_rule = text::PoolRule::first_end, c.end_id = 77;
  EXPECT_EQ(pooled_position(c, ids), 0u);  // as transformers: no end token, first position
}

}  // namespace
}  // namespace tandem::model
