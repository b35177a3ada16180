// Batches on a device that works beside the host, in miniature: two are on their way at a time, and inputs and vectors
// may stay in the device's memory.
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <deque>
#include <map>
#include <random>
#include <tuple>

#include "backend/reference/reference_backend.h"
#include "engine/context_impl.h"
#include "source_dir.h"
#include "tandem/engine.h"
#include "unit/model/forwarding_backend.h"

namespace tandem {
namespace {

struct Watch {
  std::atomic<int> uploads{0}, most_begun{0}, again{0};  // again: passes whose key had come before
  std::atomic<bool> fail{false};
};

/// Computes at once, but lets nobody see: vectors arrive when their mark is waited for, pixels when they are joined.
class LateBackend final : public backend::test::ForwardingBackend {
 public:
  explicit LateBackend(Watch& watch) : ForwardingBackend(backend::make_reference_backend()), watch_(watch) {
    stream_mark = this;
    on_linear = [this](const backend::LinearArgs& a) {
      operations_.push_back({a.x.view.data, a.x.view.rows(), a.weight, a.out.view.data});
    };
  }
  // What a recorded pass would do without being asked is what it is asked for now.
  void replay(const backend::PassKey& key, const std::function<void()>& pass) override {
    operations_.clear();
    inside_ = true;
    pass();
    inside_ = false;
    EXPECT_FALSE(operations_.empty());
    const auto [found, fresh] = passes_.emplace(key, operations_);
    EXPECT_EQ(found->second, operations_);
    if (!fresh) ++watch_.again;
  }
  void upload(const void* host, View to) override {
    EXPECT_FALSE(inside_);
    ForwardingBackend::upload(host, to);
  }
  void upload_beside(const void* host, View to) override {
    const auto* first = static_cast<const std::byte*>(host);
    const std::lock_guard lock(mutex_);
    arriving_.push_back({to.data, {first, first + to.bytes()}});
    ++watch_.uploads;
  }
  void join_uploads() override {
    EXPECT_FALSE(inside_);
    land(arriving_);
  }
  void download_later(ConstView from, void* landing) override {
    leaving_.push_back({static_cast<std::byte*>(landing), {from.data, from.data + from.bytes()}});
  }
  std::uint64_t mark() override {
    begun_.push_back(std::exchange(leaving_, {}));
    watch_.most_begun = std::max(watch_.most_begun.load(), static_cast<int>(begun_.size()));
    return ++marked_;
  }
  void wait_for(std::uint64_t mark) override {
    EXPECT_EQ(mark, marked_ - begun_.size() + 1) << "not the oldest";
    std::vector<Copy> copies = std::move(begun_.front());
    begun_.pop_front();
    if (watch_.fail) throw Error(Code::device_failure, "the device fell off the bus");
    land(copies);
  }

 private:
  struct Copy {
    std::byte* to;
    std::vector<std::byte> bytes;
  };
  static void land(std::vector<Copy>& copies) {
    for (const Copy& c : copies) std::memcpy(c.to, c.bytes.data(), c.bytes.size());
    copies.clear();
  }
  using Operation = std::tuple<const void*, std::int64_t, const void*, const void*>;
  Watch& watch_;
  bool inside_ = false;  // a pass that may be recorded
  std::vector<Operation> operations_;
  std::map<backend::PassKey, std::vector<Operation>> passes_;
  std::mutex mutex_;
  std::vector<Copy> arriving_, leaving_;
  std::deque<std::vector<Copy>> begun_;
  std::uint64_t marked_ = 0;
};

class Pipeline : public testing::Test {
 protected:
  Pipeline() {
    context_.impl().make_backend = [this](DeviceId, const ContextOptions&, const engine::Place&) {
      return std::make_unique<LateBackend>(watch_);
    };
    std::mt19937 random(5);
    for (auto& byte : block_) byte = static_cast<std::uint8_t>(random());
    for (int i = 0; i < kImages; ++i) {
      const auto* first = place(i);
      images_.emplace_back(
          HostPixels{std::make_shared<std::vector<std::uint8_t>>(first, first + kSide * kSide * 3), kSide, kSide});
    }
    for (int i = 0; i < kImages; ++i) texts_.emplace_back(std::vector<std::int32_t>{48, 5 + i, 6, 49});
    Context plain({.threads = 1});
    Engine engine(plain, options(2));
    want_images_ = engine.embed_images(images_), want_texts_ = engine.embed_texts(texts_);
  }
  static EngineOptions options(int batch) {
    EngineOptions o;
    o.model = (test::source_dir() / "tests/golden/tiny/hf_quickgelu").string();
    o.device = parse_device("reference");
    o.max_batch = batch;
    return o;
  }
  const std::uint8_t* place(int i) const { return block_.data() + static_cast<std::size_t>(i) * kSide * kSide * 3; }
  DevicePixels on_device(int i) const { return {parse_device("reference"), place(i), kSide, kSide}; }
  static void expect_same(const std::vector<Embedding>& got, const std::vector<Embedding>& want) {
    ASSERT_EQ(got.size(), want.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
      ASSERT_FALSE(got[i].error) << got[i].error->message;
      EXPECT_EQ(got[i].values, want[i].values) << i;
    }
  }

  static constexpr int kSide = 28, kImages = 24;
  Watch watch_;
  Context context_{{.threads = 2}};
  std::vector<std::uint8_t> block_ = std::vector<std::uint8_t>(std::size_t{kImages} * kSide * kSide * 3);
  std::vector<ImageInput> images_;
  std::vector<TextInput> texts_;
  std::vector<Embedding> want_images_, want_texts_;
};

TEST_F(Pipeline, FullBatchesAreBegunAheadAndVectorsStayTheSame) {
  Engine engine(context_, options(2));
  expect_same(engine.embed_images(images_), want_images_);
  EXPECT_EQ(watch_.uploads, kImages);
  EXPECT_EQ(watch_.most_begun, 2);
  Request both;
  both.images = images_, both.texts = texts_;
  const Response answer = engine.submit(both).get();
  expect_same(answer.images, want_images_);
  expect_same(answer.texts, want_texts_);
}

TEST_F(Pipeline, ABatchThatMayGrowIsNotBegunAhead) {
  Engine engine(context_, options(64));
  std::vector<std::future<Response>> answers;
  for (const ImageInput& image : images_) {
    Request one;
    one.images = {image};
    answers.push_back(engine.submit(one));
  }
  for (std::size_t i = 0; i < answers.size(); ++i) expect_same(answers[i].get().images, {want_images_[i]});
  EXPECT_EQ(watch_.most_begun, 1);
}

TEST_F(Pipeline, APassThatComesAgainIsTheSamePass) {
  Engine engine(context_, options(2));
  for (int round = 0; round < 3; ++round) {
    const int before = watch_.again;
    for (std::size_t i = 0; i < images_.size(); ++i) {
      expect_same(engine.embed_images({&images_[i], 1}), {want_images_[i]});
      expect_same(engine.embed_texts({&texts_[i], 1}), {want_texts_[i]});
    }
    // Another picture or text of as many tokens is no other pass.
    EXPECT_EQ(watch_.again - before, 2 * kImages - (round == 0 ? 2 : 0));
    expect_same(engine.embed_images(images_), want_images_);
  }
}

TEST_F(Pipeline, PixelsOnTheDeviceAreReadWhereTheyAre) {
  Engine engine(context_, options(4));
  std::vector<ImageInput> there, scattered;
  for (int i = 0; i < kImages; ++i) there.emplace_back(on_device(i));
  expect_same(engine.embed_images(there), want_images_);
  EXPECT_EQ(watch_.uploads, 0);
  // Out of order, and some on the host.
  std::vector<Embedding> want;
  for (int i = kImages - 1; i >= 0; --i) {
    scattered.push_back(i % 3 == 0 ? images_[static_cast<std::size_t>(i)] : there[static_cast<std::size_t>(i)]);
    want.push_back(want_images_[static_cast<std::size_t>(i)]);
  }
  expect_same(engine.embed_images(scattered), want);
  EXPECT_EQ(watch_.uploads, kImages / 3);

  DevicePixels elsewhere = on_device(0), small = on_device(0), nothing = on_device(0);
  elsewhere.device = parse_device("cuda:0"), small.width = 27, nothing.pixels = nullptr;
  const auto failed = engine.embed_images(std::vector<ImageInput>{elsewhere, small, nothing, DevicePixels{}});
  EXPECT_EQ(failed[0].error.value().code, Code::unsupported);
  EXPECT_EQ(failed[1].error.value().code, Code::invalid_argument);
  EXPECT_EQ(failed[2].error.value().code, Code::invalid_argument);
  EXPECT_EQ(failed[3].error.value().code, Code::unsupported);
}

TEST_F(Pipeline, VectorsMayStayOnTheDevice) {
  Engine engine(context_, options(5));
  const auto width = static_cast<std::size_t>(engine.info().embed_dim);
  std::vector<float> room(kImages * width), text_room(kImages * width);
  Request request;
  request.images = images_, request.texts = texts_;
  request.images.insert(request.images.begin() + 7, EncodedImage{});
  room.resize(room.size() + width);
  request.image_vectors = {parse_device("reference"), room.data(), kImages + 1, static_cast<int>(width)};
  request.text_vectors = {parse_device("reference"), text_room.data(), kImages, static_cast<int>(width)};
  const Response answer = engine.submit(request).get();
  for (std::size_t i = 0, k = 0; i <= kImages; ++i) {
    EXPECT_EQ(answer.images[i].error.has_value(), i == 7) << i;
    EXPECT_TRUE(answer.images[i].values.empty());
    const std::vector<float> row(&room[i * width], &room[i * width] + width);
    EXPECT_EQ(row, i == 7 ? std::vector<float>(width) : want_images_[k++].values) << i;
  }
  for (std::size_t i = 0; i < kImages; ++i) {
    EXPECT_EQ(answer.texts[i].tokens, 4);
    EXPECT_EQ(std::vector<float>(&text_room[i * width], &text_room[i * width] + width), want_texts_[i].values) << i;
  }
  const auto code_of = [&](const DeviceVectors& to) {
    Request wrong;
    wrong.images = images_, wrong.image_vectors = to;
    try {
      engine.submit(wrong).get();
    } catch (const Error& error) {
      return error.code();
    }
    return Code::internal;
  };
  const DeviceId own = parse_device("reference");
  EXPECT_EQ(code_of({own, room.data(), kImages - 1, static_cast<int>(width)}), Code::invalid_argument);
  EXPECT_EQ(code_of({own, room.data(), kImages, static_cast<int>(width) + 1}), Code::invalid_argument);
  EXPECT_EQ(code_of({parse_device("cpu"), room.data(), kImages, static_cast<int>(width)}), Code::invalid_argument);
}

TEST_F(Pipeline, AFailureAnswersWhatWasBegunToo) {
  context_.impl().replace_after.assign(3, std::chrono::milliseconds(1));
  Engine engine(context_, options(2));
  watch_.fail = true;
  Request request;
  request.images = images_;
  try {
    const Response answer = engine.submit(request).get();
    for (const Embedding& e : answer.images) EXPECT_EQ(e.error.value().code, Code::device_failure);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::device_failure);
  }
  for (auto health = engine.health(); health.working + health.replacing > 0; health = engine.health()) {
    std::this_thread::yield();
  }
  EXPECT_EQ(engine.queued(), 0u);
}

}  // namespace
}  // namespace tandem
