// The public API on small models: right vectors from several threads, items that fail alone, and every way in which a
// request can end early.
#include "tandem/engine.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <thread>

#include "base/strings.h"
#include "model/files.h"
#include "tolerance.h"

namespace tandem {
namespace {

const std::string kTiny = std::string(TANDEM_SOURCE_DIR) + "/tests/golden/tiny/";

DeviceId device() {
#ifdef TANDEM_TEST_DEVICE
  return parse_device(TANDEM_TEST_DEVICE);
#else
  return parse_device("cpu");
#endif
}

EngineOptions options(const std::string& model = "hf_quickgelu") {
  EngineOptions o;
  o.model = kTiny + model;
  o.device = device();
  o.precision = Precision::fp32;
  return o;
}

/// What the reference computed for a tiny model, and its inputs as an Engine takes them.
struct Golden {
  explicit Golden(const std::string& model) : file(model::open_safetensors({kTiny + model + "/goldens.safetensors"})) {
    const ConstView pixels = file->get("pixels");
    const auto bytes = static_cast<std::size_t>(pixels.shape.elements() / pixels.shape[0]);
    for (std::int64_t i = 0; i < pixels.shape[0]; ++i) {
      const auto* first = pixels.as<std::uint8_t>() + static_cast<std::size_t>(i) * bytes;
      images.emplace_back(HostPixels{std::make_shared<std::vector<std::uint8_t>>(first, first + bytes),
                                     static_cast<int>(pixels.shape[2]), static_cast<int>(pixels.shape[1])});
    }
    for (int k = 0; file->find(cat("text.", k, ".ids")); ++k) {
      const ConstView ids = file->get(cat("text.", k, ".ids"));
      texts.emplace_back(
          std::vector<std::int32_t>(ids.as<std::int32_t>(), ids.as<std::int32_t>() + ids.shape.elements()));
    }
  }
  std::vector<float> row(const std::string& name, std::size_t i) {
    const ConstView v = file->get(name);
    const float* first = v.as<float>() + static_cast<std::int64_t>(i) * v.columns();
    return {first, first + v.columns()};
  }
  std::unique_ptr<model::WeightSource> file;
  std::vector<ImageInput> images;
  std::vector<TextInput> texts;
};

void expect_equal(const Embedding& got, const std::vector<float>& want) {
  ASSERT_FALSE(got.error) << got.error->message;
  ASSERT_EQ(got.values.size(), want.size());
  EXPECT_GE(test::cosine(got.values, want), 0.999999);
  EXPECT_LE(test::largest_difference(got.values, want), 2e-5);
}

class EngineModels : public testing::TestWithParam<const char*> {};

TEST_P(EngineModels, GivesTheReferencesVectors) {
  Context context({.threads = 2});
  Engine engine(context, options(GetParam()));
  Golden golden(GetParam());
  const auto images = engine.embed_images(golden.images);
  for (std::size_t i = 0; i < images.size(); ++i) expect_equal(images[i], golden.row("vision.projected_normalized", i));
  const auto texts = engine.embed_texts(golden.texts, {Feature::projected, false});
  for (std::size_t i = 0; i < texts.size(); ++i) expect_equal(texts[i], golden.row("text.projected", i));
  const auto pooled = engine.embed_images(golden.images, {Feature::pooled, false});
  for (std::size_t i = 0; i < pooled.size(); ++i) expect_equal(pooled[i], golden.row("vision.pooled", i));
  const auto unit = engine.embed_images(golden.images, {Feature::pooled, true});
  EXPECT_NEAR(std::sqrt(std::inner_product(unit[0].values.begin(), unit[0].values.end(), unit[0].values.begin(), 0.0)),
              1, 1e-6);
}

INSTANTIATE_TEST_SUITE_P(Tiny, EngineModels,
                         testing::Values("hf_quickgelu", "hf_gelu_head80", "openclip_gelu", "openclip_quickgelu_bin"),
                         [](const auto& one) { return std::string(one.param); });

TEST(Engine, ManyThreadsAndBatchesGiveTheSameVectors) {
  Context context({.threads = 1, .decode_threads = 2});
  EngineOptions o = options();
  o.max_batch = 3;
  Engine engine(context, o);
  Golden golden("hf_quickgelu");
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int r = 0; r < 10; ++r) {
        std::vector<ImageInput> images;
        std::vector<TextInput> texts;
        for (std::size_t i = 0; i < static_cast<std::size_t>(t + 1); ++i) {
          images.push_back(golden.images[i % golden.images.size()]);
          texts.push_back(golden.texts[i % golden.texts.size()]);
        }
        const auto a = engine.embed_images(images);
        const auto b = engine.embed_texts(texts);
        for (std::size_t i = 0; i < images.size(); ++i) {
          wrong +=
              test::cosine(a[i].values, golden.row("vision.projected_normalized", i % golden.images.size())) < 0.999999;
          wrong +=
              test::cosine(b[i].values, golden.row("text.projected_normalized", i % golden.texts.size())) < 0.999999;
        }
      }
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(engine.queued(), 0u);
}

TEST(Engine, ABatchSurvivesItsWorstItems) {
  Context context({.threads = 2});
  Engine engine(context, options());
  Golden golden("hf_quickgelu");
  std::vector<ImageInput> images = golden.images;
  images.insert(images.begin() + 1, EncodedImage{std::make_shared<std::vector<std::byte>>(10, std::byte{7})});
  images.insert(images.begin(), EncodedImage{});
  images.push_back(HostPixels{std::make_shared<std::vector<std::uint8_t>>(5), 28, 28});
  images.push_back(DevicePixels{});
  const auto out = engine.embed_images(images);
  EXPECT_TRUE(out[0].error);
  expect_equal(out[1], golden.row("vision.projected_normalized", 0));
  EXPECT_EQ(out[2].error.value().code, Code::bad_data);
  expect_equal(out[3], golden.row("vision.projected_normalized", 1));
  EXPECT_EQ(out[4].error.value().code, Code::invalid_argument);
  EXPECT_EQ(out[5].error.value().code, Code::unsupported);

  std::vector<TextInput> texts = golden.texts;
  texts.push_back(std::vector<std::int32_t>{0, 1'000'000});
  texts.push_back(std::vector<std::int32_t>{-1});
  texts.push_back(std::vector<std::int32_t>{});
  texts.push_back(std::vector<std::int32_t>(1000, 3));
  const auto embedded = engine.embed_texts(texts);
  const std::size_t n = golden.texts.size();
  for (std::size_t i = 0; i < n; ++i) expect_equal(embedded[i], golden.row("text.projected_normalized", i));
  EXPECT_EQ(embedded[n].error.value().code, Code::invalid_argument);
  EXPECT_EQ(embedded[n + 1].error.value().code, Code::invalid_argument);
  EXPECT_EQ(embedded[n + 2].error.value().code, Code::invalid_argument);
  EXPECT_EQ(embedded[n + 3].error.value().code, Code::too_large);
  EXPECT_EQ(engine.queued(), 0u);
}

TEST(Engine, WithdrawnAndLateRequestsAreAnsweredSo) {
  Context context({.threads = 1});
  Engine engine(context, options());
  Golden golden("hf_quickgelu");
  Request late;
  late.images = golden.images;
  late.deadline = std::chrono::steady_clock::now() - std::chrono::seconds(1);
  auto future = engine.submit(std::move(late));
  try {
    future.get();
    FAIL() << "a passed deadline was ignored";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::deadline_exceeded);
  }
  Request withdrawn;
  withdrawn.texts = golden.texts;
  withdrawn.cancel = std::make_shared<std::atomic<bool>>(true);
  future = engine.submit(std::move(withdrawn));
  try {
    future.get();
    FAIL() << "a withdrawn request was computed";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::cancelled);
  }
  EXPECT_EQ(engine.submit(Request{}).get().images.size(), 0u);
  EXPECT_EQ(engine.queued(), 0u);
}

TEST(Engine, AFullQueueSaysSoAndLosesNothing) {
  Context context({.threads = 1});
  EngineOptions o = options();
  o.max_queue = 8;
  Engine engine(context, o);
  Golden golden("hf_quickgelu");
  std::atomic<int> answered{0};
  int accepted = 0, refused = 0;
  for (int i = 0; i < 2000; ++i) {
    Request r;
    r.texts = golden.texts;
    try {
      engine.submit(std::move(r), [&](auto answer) { answered += std::holds_alternative<Response>(answer); });
      ++accepted;
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), Code::overloaded);
      ++refused;
    }
  }
  EXPECT_GT(accepted, 0);
  // A request's items leave the queue just before its answer is given.
  const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (answered < accepted && std::chrono::steady_clock::now() < patience) std::this_thread::yield();
  EXPECT_EQ(answered, accepted);
  EXPECT_EQ(engine.queued(), 0u);
  EXPECT_EQ(accepted + refused, 2000);
  Request large;
  large.texts.assign(9, golden.texts[0]);
  EXPECT_THROW(engine.submit(std::move(large)), Error);
  // The blocking call waits for room instead, also with more items than the queue holds.
  const std::vector<TextInput> many(50, golden.texts[1]);
  for (const auto& e : engine.embed_texts(many)) expect_equal(e, golden.row("text.projected_normalized", 1));
}

TEST(Engine, ShuttingDownAnswersWhatWaits) {
  Context context({.threads = 1});
  Golden golden("hf_quickgelu");
  std::atomic<int> answers{0};
  constexpr int kRequests = 200;
  {
    Engine engine(context, options());
    for (int i = 0; i < kRequests; ++i) {
      Request r;
      r.images = golden.images;
      r.images.push_back(EncodedImage{std::make_shared<std::vector<std::byte>>(100)});
      engine.submit(std::move(r), [&](auto) { ++answers; });
    }
  }
  EXPECT_EQ(answers, kRequests);
}

TEST(Engine, ATowerThatIsNotLoadedRefusesItsInputs) {
  Context context({.threads = 1});
  EngineOptions o = options();
  o.load_text = false;
  Engine engine(context, o);
  Golden golden("hf_quickgelu");
  EXPECT_EQ(engine.embed_texts(golden.texts)[0].error.value().code, Code::unsupported);
  expect_equal(engine.embed_images(golden.images)[0], golden.row("vision.projected_normalized", 0));
}

TEST(Engine, ClassifiesByCosine) {
  Context context({.threads = 2});
  Engine engine(context, options());
  Golden golden("hf_quickgelu");
  const std::vector<std::string> labels{"a red heart", "cat", "dogs"}, templates{"the {}", "a {} in the rain"};
  const LabelSet set = engine.encode_labels(labels, templates);
  const auto out = engine.classify(golden.images, set);
  const auto image = engine.embed_images(golden.images);
  const auto dim = static_cast<std::size_t>(engine.info().embed_dim);
  for (std::size_t i = 0; i < out.size(); ++i) {
    double sum = 0;
    ASSERT_EQ(out[i].labels.size(), labels.size());
    for (std::size_t l = 0; l < labels.size(); ++l) {
      const auto& s = out[i].labels[l];
      sum += s.probability;
      const double cosine = test::cosine(image[i].values, std::span(set.vectors).subspan(s.label * dim, dim));
      EXPECT_NEAR(s.logit, engine.info().logit_scale * cosine, 1e-4 * engine.info().logit_scale);
      if (l > 0) {
        EXPECT_LE(s.logit, out[i].labels[l - 1].logit);
      }
    }
    EXPECT_NEAR(sum, 1, 1e-5);
  }
  EXPECT_EQ(engine.classify(golden.images, set, 1)[0].labels.size(), 1u);
  const std::vector<std::string> none, bad{"no place for it"};
  EXPECT_THROW(engine.encode_labels(none), Error);
  EXPECT_THROW(engine.encode_labels(labels, bad), Error);
}

TEST(Engine, RefusesWhatCannotWork) {
  Context context({.threads = 1});
  EngineOptions o = options();
  o.model = kTiny + "no_such_folder";
  EXPECT_THROW(Engine(context, o), Error);
  o = options();
  o.device = parse_device("cuda:4096");
  EXPECT_THROW(Engine(context, o), Error);
  o = options();
  o.device = parse_device("cpu");  // the reference computes everything
  o.precision = Precision::fp8;
  EXPECT_THROW(Engine(context, o), Error);
  Context small({.threads = 1, .memory_budget = 1000});
  try {
    Engine engine(small, options());
    FAIL() << "a budget of 1000 bytes was exceeded";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::out_of_memory);
  }
}

}  // namespace
}  // namespace tandem
