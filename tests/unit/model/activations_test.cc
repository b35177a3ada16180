// The memory of a pass: batches of many rows make the MLP's middle in pieces and give the vectors of small ones, and a
// plan for a batch is one for every smaller batch.
#include <gtest/gtest.h>

#include <cstring>
#include <set>
#include <thread>

#include "backend/reference/reference_backend.h"
#include "parallel/in_process.h"
#include "unit/model/forwarding_backend.h"
#include "unit/model/small_model.h"

namespace tandem::model {
namespace {

using backend::test::ForwardingBackend;

/// MLPs as wide as four rows of the stream and wider, so that many rows do not fit at once.
Config wide_config() {
  Config c = test::small_config();
  c.vision.layers = c.text.layers = 2;
  c.vision.mlp = 5 * c.vision.width;
  return c;
}

struct Passes {
  std::vector<float> images(const ConstView& pixels, std::size_t bytes) {
    Arena arena(backend.allocate(bytes));
    Execution ex{backend, arena, alone, model.precision};
    return test::floats(
        encode_images(ex, model.config.vision, *model.vision, model.config.embed_dim, pixels, {}).projected);
  }
  std::vector<float> texts(std::span<const std::span<const std::int32_t>> ids, bool share, std::size_t bytes) {
    pack_texts(model.config.text, ids, share, packed);
    Arena arena(backend.allocate(bytes));
    Execution ex{backend, arena, alone, model.precision};
    return test::floats(encode_texts(ex, model.config.text, *model.text, model.config.embed_dim, packed, {}).projected);
  }
  std::size_t image_bytes(std::int64_t n) const {
    return plan_images(backend, model.precision, model.config.vision, model.config.embed_dim, n);
  }
  std::size_t text_bytes(std::int64_t count, std::int64_t rows) const {
    return plan_texts(backend, model.precision, model.config.text, model.config.embed_dim, count, rows);
  }
  ForwardingBackend backend{backend::make_reference_backend()};
  Model model = load_model(test::small_files(wide_config()), backend, {});
  parallel::Alone alone;
  PackedTexts packed;
};

/// Texts of `tokens` tokens each that differ behind the start.
std::vector<std::vector<std::int32_t>> many_texts(int count, int tokens) {
  std::mt19937 random(11);
  std::vector<std::vector<std::int32_t>> out;
  for (int i = 0; i < count; ++i) {
    std::vector<std::int32_t> ids{48};
    while (static_cast<int>(ids.size()) + 1 < tokens) ids.push_back(static_cast<std::int32_t>(random() % 48));
    ids.push_back(49);
    out.push_back(std::move(ids));
  }
  return out;
}

TEST(Activations, ManyTextsInPiecesGiveTheVectorsOfFew) {
  Passes p;
  const auto ids = many_texts(3200, 12);  // 38,400 rows
  const std::vector<std::span<const std::int32_t>> spans(ids.begin(), ids.end());
  const BlockWeights& block = *HeldBlock(*p.model.text->blocks, 0, p.backend);
  std::vector<std::int64_t> pieces;
  p.backend.on_linear = [&](const backend::LinearArgs& a) {
    if (a.weight == block.fc1.weight.get()) pieces.push_back(a.x.view.rows());
  };
  const auto whole = p.texts(spans, false, p.text_bytes(3200, 38400));
  EXPECT_EQ(pieces, (std::vector<std::int64_t>{19200, 19200}));
  pieces.clear();
  std::vector<float> parts;
  for (std::size_t first = 0; first < spans.size(); first += 400) {
    const auto some = p.texts(std::span(spans).subspan(first, 400), false, p.text_bytes(400, 4800));
    parts.insert(parts.end(), some.begin(), some.end());
  }
  EXPECT_EQ(pieces, std::vector<std::int64_t>(8, 4800));
  EXPECT_EQ(whole, parts);
}

TEST(Activations, ManyTextsInPiecesOnTwoRanks) {
  Passes whole;
  const auto ids = many_texts(3200, 12);
  const std::vector<std::span<const std::int32_t>> spans(ids.begin(), ids.end());
  const std::size_t bytes = whole.text_bytes(3200, 38400);
  const auto want = whole.texts(spans, false, bytes);
  auto group = parallel::make_in_process(2);
  std::vector<std::vector<float>> got(2);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 2; ++rank) {
    threads.emplace_back([&, rank] {
      const auto at = static_cast<std::size_t>(rank);
      ForwardingBackend backend(backend::make_reference_backend());
      LoadOptions options;
      options.tensor_rank = rank, options.tensor_ranks = 2;
      const Model part = load_model(test::small_files(wide_config()), backend, options);
      PackedTexts packed;
      pack_texts(part.config.text, spans, false, packed);
      Arena arena(backend.allocate(bytes));
      Execution ex{backend, arena, *group[at], part.precision};
      got[at] =
          test::floats(encode_texts(ex, part.config.text, *part.text, part.config.embed_dim, packed, {}).projected);
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(got[0], got[1]);
  ASSERT_EQ(got[0].size(), want.size());
  for (std::size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[0][i], want[i], 1e-5) << i;
}

TEST(Activations, ManyImagesInPiecesGiveTheVectorsOfFew) {
  Passes p;
  constexpr std::int64_t kImages = 9000, kPart = 1500;  // 45,000 rows
  const Tensor pixels = host_tensor(DType::u8, {kImages, 16, 16, 3});
  std::mt19937 random(3);
  std::generate_n(pixels.view().as<std::uint8_t>(), pixels.bytes(),
                  [&] { return static_cast<std::uint8_t>(random() % 256); });
  std::set<std::int64_t> pieces;
  const BlockWeights& block = *HeldBlock(*p.model.vision->blocks, 0, p.backend);
  p.backend.on_linear = [&](const backend::LinearArgs& a) {
    if (a.weight == block.fc2.weight.get()) pieces.insert(a.x.view.rows());
  };
  const auto whole = p.images(pixels.view(), p.image_bytes(kImages));
  EXPECT_EQ(pieces, std::set<std::int64_t>{22500});
  std::vector<float> parts;
  for (std::int64_t first = 0; first < kImages; first += kPart) {
    const ConstView some(pixels.view().data + first * 16 * 16 * 3, DType::u8, {kPart, 16, 16, 3});
    const auto vectors = p.images(some, p.image_bytes(kPart));
    parts.insert(parts.end(), vectors.begin(), vectors.end());
  }
  EXPECT_EQ(whole, parts);
}

/// Takes memory of its own for products: what a plan must know of.
class Hungry final : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;
  std::size_t linear_scratch(std::int64_t rows, std::int64_t inputs, Precision) const override {
    return static_cast<std::size_t>(rows * inputs);
  }
};

TEST(Activations, WhatTheBackendTakesForItselfIsPlanned) {
  for (const bool wide : {false, true}) {
    Hungry backend(backend::make_reference_backend());
    const Model model = load_model(test::small_files(wide ? wide_config() : test::small_config()), backend, {});
    const VisionConfig& c = model.config.vision;
    parallel::Alone alone;
    std::size_t taken = 0;
    backend.on_linear = [&](const backend::LinearArgs& a) {
      taken = std::max(taken, backend.linear_scratch(a.x.view.rows(), a.weight->inputs(), Precision::fp32));
    };
    std::size_t before = 0;
    for (const std::int64_t n : {1, 3, 50, 6553, 6554, 9000}) {
      const Tensor pixels = host_tensor(DType::u8, {n, 16, 16, 3});
      std::memset(pixels.view().data, 7, pixels.bytes());
      Arena arena(backend.allocate(plan_images(backend, model.precision, c, model.config.embed_dim, n)));
      Execution ex{backend, arena, alone, model.precision};
      taken = 0;
      encode_images(ex, c, *model.vision, model.config.embed_dim, pixels.view(), {});
      const std::size_t planned = backend_bytes(backend, model.precision, c, n * c.tokens());
      // In pieces of rows it is what the largest piece could have been.
      EXPECT_LE(taken, planned) << n;
      if (n * c.tokens() <= 32768) {
        EXPECT_EQ(taken, planned) << n;
      }
      EXPECT_GE(planned, before) << n;
      before = planned;
    }
  }
}

TEST(Activations, APlanServesEverySmallerBatch) {
  Passes p;
  std::size_t before = 0;
  for (const std::int64_t n : {1, 2, 3, 50, 6553, 6554, 8000, 16000}) {
    const std::size_t bytes = p.image_bytes(n);
    EXPECT_GT(bytes, before) << n;
    before = bytes;
  }
  // Many rows need their q, k and v, the stream and one activation: five rows of the stream, not six.
  const auto row = static_cast<std::size_t>(p.model.config.vision.width) * sizeof(float);
  constexpr std::size_t kMany = 40000, kTokens = 5;
  EXPECT_LT(p.image_bytes(kMany), kMany * (5 * kTokens + 3) * row);

  // Counts, lengths and shared beginnings below what was planned for, up to a row a text.
  constexpr std::int64_t kCount = 40;
  const std::size_t planned = p.text_bytes(kCount, kCount * 12);
  for (const int count : {1, 7, 40}) {
    for (const int tokens : {2, 3, 12}) {
      auto ids = many_texts(count, tokens);
      for (auto& one : ids) std::fill(one.begin() + 1, one.begin() + tokens / 2, 5);
      const std::vector<std::span<const std::int32_t>> spans(ids.begin(), ids.end());
      const auto apart = p.texts(spans, false, planned);
      const auto shared = p.texts(spans, true, planned);
      EXPECT_EQ(p.packed.prefix, count == 1 ? 0 : std::max(1, tokens / 2)) << count << " " << tokens;
      ASSERT_EQ(apart.size(), shared.size());
      for (std::size_t i = 0; i < apart.size(); ++i) EXPECT_NEAR(apart[i], shared[i], 1e-5);
    }
  }
}

}  // namespace
}  // namespace tandem::model
