// What a replica computes before it takes work, by counts: the first requests find passes that came before.
#include <gtest/gtest.h>

#include <map>
#include <mutex>
#include <set>

#include "engine/context_impl.h"
#include "unit/engine/gated_engine.h"

namespace tandem::engine {
namespace {

using backend::PassKey;

/// What all backends of a Context were asked to compute.
struct Seen {
  std::mutex mutex;
  std::map<PassKey, int> passes;
  std::multiset<std::int64_t> pictures;  ///< of every pass
  int texts = 0;                         ///< passes
  std::vector<int> found;                ///< how often each pass since watch() had come before
  bool watching = false;
  std::int64_t most_pictures = 1'000'000;  ///< more of them run out of memory
  bool fails_pooled = false;               ///< the device fails where a vector is not projected

  void watch() {
    const std::lock_guard lock(mutex);
    watching = true;
    found.clear();
  }
};

class CountingBackend final : public backend::test::ForwardingBackend {
 public:
  CountingBackend(Seen& seen, bool beside) : ForwardingBackend(backend::make_reference_backend()), seen_(seen) {
    if (beside) stream_mark = this;
  }
  void replay(const PassKey& key, const std::function<void()>& pass) override {
    {
      const std::lock_guard lock(seen_.mutex);
      if (seen_.fails_pooled && (key[1] & 2) == 0) throw Error(Code::device_failure, "the device has gone");
      const int before = seen_.passes[key]++;
      if (seen_.watching) seen_.found.push_back(before);
    }
    pass();
  }
  void patch_embed(const backend::PatchEmbedArgs& a) override {
    {
      const std::lock_guard lock(seen_.mutex);
      if (a.pixels.shape[0] > seen_.most_pictures) throw Error(Code::out_of_memory, "too many pictures");
      seen_.pictures.insert(a.pixels.shape[0]);
    }
    ForwardingBackend::patch_embed(a);
  }
  void embed_tokens(const backend::EmbedTokensArgs& a) override {
    {
      const std::lock_guard lock(seen_.mutex);
      ++seen_.texts;
    }
    ForwardingBackend::embed_tokens(a);
  }

 private:
  Seen& seen_;
};

class WarmUp : public test::GatedEngine {
 protected:
  /// beside: a device that works beside the host.
  void use_counting_backends(bool beside) {
    context_.impl().make_backend = [this, beside](DeviceId, const ContextOptions&, const engine::Place&) {
      return std::make_unique<CountingBackend>(seen_, beside);
    };
  }
  static EngineOptions warm(int batch) {
    EngineOptions o = options(batch);
    o.warm_up = true;
    return o;
  }
  std::span<const ImageInput> pictures(std::size_t count) const { return std::span(images_).first(count); }

  Seen seen_;
};

TEST_F(WarmUp, FirstRequestsFindRecordedPasses) {
  use_counting_backends(true);
  Engine engine(context_, warm(8));
  EXPECT_TRUE(was_said("warmed up on reference: "));
  EXPECT_GT(engine.info().rehearsed.warm_passes, 16);
  {  // Both places for pixels of a full batch, which is begun while another is computed; and one of texts.
    const std::lock_guard lock(seen_.mutex);
    int full = 0;
    for (const auto& [key, count] : seen_.passes) full += key[2] == 8 && count >= 2 ? 1 : 0;
    EXPECT_EQ(full, 3);
  }
  seen_.watch();
  std::size_t asked = 0;
  for (const std::size_t count : {1, 2, 3, 5, 8}) {
    const auto got = engine.embed_images(pictures(count));
    for (std::size_t i = 0; i < count; ++i) expect_same(got[i], want_images_[i]);
    ++asked;
  }
  for (const int length : {3, engine.info().context_length}) {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(length), 7);
    ids.front() = 48, ids.back() = 49;
    const std::vector<TextInput> text{ids};
    ASSERT_FALSE(engine.embed_texts(text).front().error);
    ++asked;
  }
  const std::lock_guard lock(seen_.mutex);
  EXPECT_EQ(seen_.found.size(), asked);
  for (const int before : seen_.found) EXPECT_GE(before, 2) << "a pass is recorded when it comes again";
}

TEST_F(WarmUp, AProcessorComputesBothKinds) {
  use_counting_backends(false);
  const Engine engine(context_, warm(4));
  const std::lock_guard lock(seen_.mutex);
  EXPECT_GE(seen_.pictures.count(1), 1U);
  EXPECT_GE(seen_.texts, 1);
  EXPECT_EQ(static_cast<std::size_t>(engine.info().rehearsed.warm_passes),
            seen_.pictures.size() + static_cast<std::size_t>(seen_.texts));
}

TEST_F(WarmUp, OnlyWhereItIsWanted) {
  use_counting_backends(true);
  const Engine engine(context_, options(4));
  const std::lock_guard lock(seen_.mutex);
  EXPECT_EQ(seen_.passes.size(), 0U);
  EXPECT_EQ(engine.info().rehearsed.warm_passes, 0);
}

TEST_F(WarmUp, AnEngineOfOneTowerWarmsThatUp) {
  use_counting_backends(true);
  EngineOptions o = warm(4);
  o.load_vision = false;
  const Engine engine(context_, o);
  const std::lock_guard lock(seen_.mutex);
  EXPECT_EQ(seen_.pictures.size(), 0U);
  EXPECT_GE(seen_.texts, 1);
}

TEST_F(WarmUp, SizesWithoutMemoryAreLeftOut) {
  use_counting_backends(true);
  seen_.most_pictures = 3;
  EngineOptions o = warm(8);
  o.measure_seconds = 0.01;  // not tried there either
  Engine engine(context_, o);
  const auto got = engine.embed_images(pictures(8));  // halved while it is served
  for (std::size_t i = 0; i < 8; ++i) expect_same(got[i], want_images_[i]);
}

TEST_F(WarmUp, TextsAreMeasuredWhereSmallPassesAreRecorded) {
  use_counting_backends(true);
  EngineOptions o = warm(4);
  o.measure_seconds = 0.05;
  const Engine engine(context_, o);
  const Rehearsed& done = engine.info().rehearsed;
  ASSERT_GE(done.images.size(), 1U);
  EXPECT_EQ(done.images.front().items, 1);
  ASSERT_GE(done.texts.size(), 1U);
  EXPECT_EQ(done.texts.front().items, 1);
  EXPECT_GT(done.texts.front().seconds, 0);
  EXPECT_EQ(done.text_tokens, 12);
  EXPECT_TRUE(was_said("passes of texts on reference take: 1: "));
}

TEST_F(WarmUp, ItsPassesDoNotMakeUpForTries) {  // a device that fails with every request is given up all the same
  use_counting_backends(true);
  context_.impl().replace_after = {std::chrono::milliseconds(1), std::chrono::milliseconds(1)};
  Engine engine(context_, warm(4));
  {
    const std::lock_guard lock(seen_.mutex);
    seen_.fails_pooled = true;
  }
  for (int failed = 0; failed < 3; ++failed) {
    Request request = images(0, 1);
    request.options.feature = Feature::pooled;
    auto answer = ask(engine, std::move(request));
    ASSERT_TRUE(arrives(answer));
    EXPECT_EQ(error_of(answer).code, Code::device_failure);
  }
  EXPECT_TRUE(eventually([&] { return engine.health().working + engine.health().replacing == 0; }));
}

}  // namespace
}  // namespace tandem::engine
