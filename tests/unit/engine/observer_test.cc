// Where an Engine's time goes, as it tells its Observer: every item prepared, waited and computed once.
#include "tandem/observer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <mutex>

#include "tandem/engine.h"

namespace tandem {
namespace {

class Counting final : public Observer {
 public:
  struct Kind {
    std::size_t prepared = 0, waited = 0, computed = 0, batches = 0;
    double decode = 0, resize = 0, wait = 0, copy = 0, compute = 0;
  };
  void prepared(bool image, double decode, double resize) noexcept override {
    const std::lock_guard lock(mutex_);
    Kind& kind = kinds_[image ? 1 : 0];
    ++kind.prepared, kind.decode += decode, kind.resize += resize;
  }
  void waited(bool image, double seconds) noexcept override {
    const std::lock_guard lock(mutex_);
    Kind& kind = kinds_[image ? 1 : 0];
    ++kind.waited, kind.wait += seconds;
  }
  void computed(bool image, std::size_t items, double copy, double compute) noexcept override {
    const std::lock_guard lock(mutex_);
    Kind& kind = kinds_[image ? 1 : 0];
    kind.computed += items, ++kind.batches, kind.copy += copy, kind.compute += compute;
  }
  Kind kind(bool image) {
    const std::lock_guard lock(mutex_);
    return kinds_[image ? 1 : 0];
  }

 private:
  std::mutex mutex_;
  Kind kinds_[2];
};

TEST(Observer, IsToldOfEveryItemOnce) {
  const auto counting = std::make_shared<Counting>();
  Context context(ContextOptions{});
  EngineOptions options;
  options.model = std::string(TANDEM_SOURCE_DIR) + "/tests/golden/tiny/hf_quickgelu";
#ifdef TANDEM_TEST_DEVICE
  options.device = parse_device(TANDEM_TEST_DEVICE);
#else
  options.device = parse_device("cpu");
#endif
  options.max_batch = 4;
  options.observer = counting;
  Engine engine(context, options);

  const auto pixels = std::make_shared<const std::vector<std::uint8_t>>(1600 * 1200 * 3, std::uint8_t{90});
  std::vector<ImageInput> images(6, HostPixels{pixels, 1600, 1200});
  images.emplace_back(EncodedImage{std::make_shared<const std::vector<std::byte>>(10)});  // no picture
  const auto begin = std::chrono::steady_clock::now();
  const auto vectors = engine.embed_images(images);
  const double lasted = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  ASSERT_TRUE(vectors.back().error);
  const Counting::Kind of_images = counting->kind(true);
  EXPECT_EQ(of_images.prepared, 6u);
  EXPECT_EQ(of_images.waited, 6u);
  EXPECT_EQ(of_images.computed, 6u);
  EXPECT_GE(of_images.batches, 2u);
  EXPECT_LE(of_images.batches, 6u);
  // Pixels in memory are not decoded: next to all of their preparation is resizing.
  EXPECT_GT(of_images.resize, of_images.decode);
  EXPECT_GT(of_images.compute, 0);
  EXPECT_GE(of_images.copy, 0);
  EXPECT_LE(of_images.copy + of_images.compute, lasted);
  EXPECT_LE(of_images.wait, 6 * lasted);

  const std::vector<TextInput> texts(3, std::vector<std::int32_t>{1, 2, 3});
  engine.embed_texts(texts);
  EXPECT_EQ(counting->kind(false).prepared, 3u);
  EXPECT_EQ(counting->kind(false).computed, 3u);
  EXPECT_EQ(counting->kind(true).computed, 6u);
}

}  // namespace
}  // namespace tandem
