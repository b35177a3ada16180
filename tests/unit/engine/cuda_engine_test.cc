// Whole models on a GPU against the processor, through the public API: every precision, both towers, any batch. Skipped
// without a device.
#include <gtest/gtest.h>

#include <mutex>
#include <random>
#include <span>

#include "base/strings.h"
#include "engine/backends.h"
#include "tandem/engine.h"
#include "tolerance.h"

namespace tandem {
namespace {

constexpr int kImages = 5, kTexts = 9;

EngineOptions options(const char* model, const char* device, Precision precision) {
  EngineOptions o;
  o.model = model;
  o.device = parse_device(device);
  o.precision = precision;
  return o;
}

std::vector<ImageInput> pictures(int side, int count) {
  std::mt19937 random(3);
  std::vector<ImageInput> out;
  for (int i = 0; i < count; ++i) {
    auto pixels = std::make_shared<std::vector<std::uint8_t>>(static_cast<std::size_t>(side * side * 3));
    for (auto& byte : *pixels) byte = static_cast<std::uint8_t>(random());
    out.emplace_back(HostPixels{pixels, side, side});
  }
  return out;
}

/// Ids that begin alike, as templates do, of lengths from the shortest to the longest.
std::vector<TextInput> sentences(const EngineInfo& info, int count, int common) {
  std::mt19937 random(4);
  std::vector<TextInput> out;
  for (int i = 0; i < count; ++i) {
    const int length = i == 0   ? common + 2
                       : i == 1 ? info.context_length
                                : common + 2 + static_cast<int>(random() % 30);
    std::vector<std::int32_t> ids{info.vocab_size - 2};
    for (int k = 1; k < length - 1; ++k) ids.push_back(k <= common ? k : static_cast<std::int32_t>(random() % 1000));
    ids.push_back(info.vocab_size - 1);
    out.emplace_back(ids);
  }
  return out;
}

void expect_alike(const std::vector<Embedding>& got, const std::vector<Embedding>& want, double least,
                  const std::string& what) {
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_FALSE(got[i].error) << what << " " << i << ": " << got[i].error->message;
    ASSERT_FALSE(want[i].error) << want[i].error->message;
    EXPECT_GE(test::cosine(got[i].values, want[i].values), least) << what << " " << i;
  }
}

class CudaEngine : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (engine::available_devices().front() == "cpu") {
      std::string reason = "no CUDA device";
      try {
        engine::make_backend(parse_device("cuda:0"), {});
      } catch (const Error& error) {
        reason = error.what();
      }
      GTEST_SKIP() << reason;
    }
  }
  Context context_;
};

TEST_P(CudaEngine, VectorsAreTheProcessors) {
  Engine cpu(context_, options(GetParam(), "cpu", Precision::fp32));
  const auto images = pictures(cpu.info().input_size, kImages);
  const auto texts = sentences(cpu.info(), kTexts, 4);
  const auto want_images = cpu.embed_images(images), want_texts = cpu.embed_texts(texts);
  const auto computes = [](Precision p) {
    try {
      engine::make_backend(parse_device("cuda:0"), {})->resolve(p);
      return true;
    } catch (const Error&) {
      return false;
    }
  };
  for (const Precision precision :
       {Precision::fp32, Precision::tf32, Precision::fp16, Precision::bf16, Precision::int8, Precision::fp8}) {
    if (precision == Precision::fp8 && !computes(precision)) continue;
    Engine gpu(context_, options(GetParam(), "cuda:0", precision));
    EXPECT_EQ(gpu.info().device, "cuda:0");
    EXPECT_EQ(gpu.info().precision, to_string(precision));
    const std::string name = cat(GetParam(), " ", to_string(precision));
    const double least = test::least_cosine(precision);
    expect_alike(gpu.embed_images(images), want_images, least, name + " image");
    expect_alike(gpu.embed_texts(texts), want_texts, least, name + " text");
  }
}

TEST_P(CudaEngine, TheBatchHardlyMattersAndTheSameBatchNot) {
  Engine gpu(context_, options(GetParam(), "cuda:0", Precision::automatic));
  EXPECT_EQ(gpu.info().precision, "fp16");
  const auto images = pictures(gpu.info().input_size, kImages);
  const auto texts = sentences(gpu.info(), kTexts, 0);
  const auto together = gpu.embed_images(images), said = gpu.embed_texts(texts);
  const auto again = gpu.embed_images(images);
  for (std::size_t i = 0; i < images.size(); ++i) EXPECT_EQ(again[i].values, together[i].values) << i;
  for (std::size_t i = 0; i < images.size(); ++i) {
    expect_alike(gpu.embed_images({&images[i], 1}), {together[i]}, 0.99999, "image alone");
  }
  for (std::size_t i = 0; i < texts.size(); ++i) {
    expect_alike(gpu.embed_texts({&texts[i], 1}), {said[i]}, 0.99999, "text alone");
  }
}

// More kinds of passes than are kept, each several times, with other inputs every time.
TEST_P(CudaEngine, RecordedPassesGiveTheSameBits) {
  std::vector<std::string> said;
  std::mutex mutex;
  Context recording({.log = [&](int level, std::string_view line) {
    const std::lock_guard lock(mutex);
    if (level >= 2) said.emplace_back(line);
  }});
  Context stepping({.graphs = false});
  EngineOptions o = options(GetParam(), "cuda:0", Precision::fp16);
  o.max_batch = 16;
  Engine with(recording, o), without(stepping, o);
  const auto images = pictures(with.info().input_size, 24);
  const auto texts = sentences(with.info(), 24, 3);
  for (int round = 0; round < 4; ++round) {
    for (std::size_t count = 1; count <= 16; ++count) {
      const std::size_t first = static_cast<std::size_t>(round * 2);
      const std::span<const ImageInput> some(&images[first], count);
      const auto got = with.embed_images(some), want = without.embed_images(some);
      for (std::size_t i = 0; i < count; ++i) EXPECT_EQ(got[i].values, want[i].values) << round << ", " << count;
    }
    for (std::size_t count = 1; count <= 8; ++count) {
      for (std::size_t first = 0; first < 16; ++first) {
        const std::span<const TextInput> some(&texts[first], count);
        const auto got = with.embed_texts(some), want = without.embed_texts(some);
        for (std::size_t i = 0; i < count; ++i) EXPECT_EQ(got[i].values, want[i].values) << round << ", " << count;
      }
    }
  }
  const std::lock_guard lock(mutex);
  EXPECT_TRUE(said.empty()) << said.front();
}

TEST_P(CudaEngine, AWarmEngineMakesNoPlanForItsFirstRequests) {
  EngineOptions o = options(GetParam(), "cuda:0", Precision::automatic);
  o.warm_up = true;
  Engine gpu(context_, o);
  const KernelChoices before = gpu.kernel_choices();
  EXPECT_GT(before.recorded, 16);
  EXPECT_GT(gpu.info().rehearsed.warm_passes, before.recorded);
  EXPECT_EQ(gpu.info().rehearsed.recorded, before.recorded);
  for (const int count : {1, 2, 8}) static_cast<void>(gpu.embed_images(pictures(gpu.info().input_size, count)));
  for (const int common : {4, 30}) static_cast<void>(gpu.embed_texts(sentences(gpu.info(), 1, common)));
  const KernelChoices after = gpu.kernel_choices();
  EXPECT_EQ(after.recorded, before.recorded);
  EXPECT_EQ(after.measured, before.measured);
  EXPECT_EQ(after.proposed, before.proposed);
}

TEST_P(CudaEngine, InputsAndVectorsStayOnTheDevice) {
  Engine gpu(context_, options(GetParam(), "cuda:0", Precision::fp16));
  const auto images = pictures(gpu.info().input_size, 70);  // more than are copied to a slot
  const auto want = gpu.embed_images(images);
  const auto backend = engine::make_backend(parse_device("cuda:0"), {});
  const auto bytes = std::get<HostPixels>(images[0]).pixels->size();
  const auto width = static_cast<std::size_t>(gpu.info().embed_dim);
  const Buffer pixels = backend->allocate(images.size() * bytes);
  const Buffer vectors = backend->allocate(images.size() * width * sizeof(float));
  for (const std::size_t count : {images.size(), std::size_t{5}}) {
    Request request;
    for (std::size_t i = 0; i < count; ++i) {
      std::byte* place = pixels.data() + i * bytes;
      const auto& host = std::get<HostPixels>(images[i]);
      backend->upload(host.pixels->data(), {place, DType::u8, {static_cast<std::int64_t>(bytes)}});
      request.images.emplace_back(DevicePixels{parse_device("cuda:0"), place, host.width, host.height});
    }
    backend->synchronize();
    request.image_vectors = {parse_device("cuda:0"), reinterpret_cast<float*>(vectors.data()), count,
                             static_cast<int>(width)};
    const Response answer = gpu.submit(request).get();
    std::vector<float> got(count * width);
    backend->download({vectors.data(), DType::f32, {static_cast<std::int64_t>(got.size())}}, got.data());
    for (std::size_t i = 0; i < count; ++i) {
      ASSERT_FALSE(answer.images[i].error) << answer.images[i].error->message;
      const std::vector<float> row(&got[i * width], &got[i * width] + width);
      EXPECT_GE(test::cosine(row, want[i].values), 0.99999) << i;
    }
  }
}

// Each tower has a stream of its own, and they are busy at the same time.
TEST_P(CudaEngine, BothTowersAtOnceGiveTheVectorsOfEach) {
  EngineOptions o = options(GetParam(), "cuda:0", Precision::fp16);
  o.max_batch = 16;
  Engine gpu(context_, o);
  const auto images = pictures(gpu.info().input_size, 16);
  const auto texts = sentences(gpu.info(), 16, 3);
  const auto want_images = gpu.embed_images(images), want_texts = gpu.embed_texts(texts);
  Request both;
  both.images = images, both.texts = texts;
  std::vector<std::future<Response>> answers;
  for (int round = 0; round < 12; ++round) answers.push_back(gpu.submit(both));
  for (auto& answer : answers) {
    const Response got = answer.get();
    for (std::size_t i = 0; i < images.size(); ++i) EXPECT_EQ(got.images[i].values, want_images[i].values) << i;
    expect_alike(got.texts, want_texts, 0.9999, "text");
  }
  const auto planned = static_cast<double>(gpu.info().planned_bytes);
  EXPECT_NEAR(static_cast<double>(gpu.info().device_bytes), planned, planned * 0.05);
}

TEST_P(CudaEngine, SeveralEnginesShareADevice) {
  Engine one(context_, options(GetParam(), "cuda:0", Precision::fp16));
  Engine two(context_, options(GetParam(), "cuda:0", Precision::fp32));
  const auto images = pictures(one.info().input_size, kImages);
  std::vector<std::future<Response>> answers;
  for (int round = 0; round < 6; ++round) {
    for (Engine* engine : {&one, &two}) {
      Request request;
      request.images = images;
      answers.push_back(engine->submit(std::move(request)));
    }
  }
  std::vector<Response> done;
  for (auto& answer : answers) done.push_back(answer.get());
  for (std::size_t i = 2; i < done.size(); ++i) {
    for (std::size_t k = 0; k < images.size(); ++k) {
      ASSERT_FALSE(done[i].images[k].error);
      EXPECT_GE(test::cosine(done[i].images[k].values, done[0].images[k].values), 0.9999) << i << ", " << k;
    }
  }
}

std::string model_name(const testing::TestParamInfo<const char*>& info) {
  std::string name = info.param;
  for (char& c : name) {
    if (c == ':' || c == '-') c = '_';
  }
  return name;
}

INSTANTIATE_TEST_SUITE_P(Every, CudaEngine, testing::Values("random:ViT-B-32", "random:ViT-B-16"), model_name);

}  // namespace
}  // namespace tandem
