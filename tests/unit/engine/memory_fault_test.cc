// Memory ends at every single allocation that an engine makes for a request, one after the other: whoever was taken in
// is answered, exactly once, and so is everybody who shares the work. This program replaces operator new for that.
#include <atomic>
#include <cstdlib>
#include <new>

#include "unit/engine/gated_engine.h"

namespace {

/// One allocation that fails: the one after so many others. Below 0: none.
thread_local int left_here = -1;
std::atomic<int> left_elsewhere{-1};
/// Whether this thread is a test's, whose own allocations are not meant by left_elsewhere.
thread_local bool is_tests = false;
std::atomic<int> failed{0};

bool ends_here() {
  if (left_here >= 0 && left_here-- == 0) return true;
  if (is_tests || left_elsewhere.load(std::memory_order_relaxed) < 0) return false;
  return left_elsewhere.fetch_sub(1) == 0;
}

void* allocate(std::size_t size, std::size_t alignment) {
  if (ends_here()) {
    ++failed;
    throw std::bad_alloc();
  }
  void* p = alignment == 0 ? std::malloc(size)
                           : std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}

}  // namespace

// Not inlined: GCC would see free() meet operator new.
[[gnu::noinline]] void* operator new(std::size_t size) {
  return allocate(size, 0);
}
[[gnu::noinline]] void* operator new(std::size_t size, std::align_val_t alignment) {
  return allocate(size, static_cast<std::size_t>(alignment));
}
[[gnu::noinline]] void operator delete(void* p) noexcept {
  std::free(p);
}
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept {
  std::free(p);
}
[[gnu::noinline]] void operator delete(void* p, std::align_val_t) noexcept {
  std::free(p);
}
[[gnu::noinline]] void operator delete(void* p, std::size_t, std::align_val_t) noexcept {
  std::free(p);
}

namespace tandem::engine {
namespace {

class MemoryFault : public test::GatedEngine {
 protected:
  MemoryFault() { is_tests = true; }
  ~MemoryFault() override { left_elsewhere = -1; }

  struct Answer {
    std::promise<Outcome> promise;
    std::future<Outcome> future = promise.get_future();
    std::atomic<int> times{0};
  };
  using AnswerPtr = std::shared_ptr<Answer>;

  static EngineOptions sharing() {
    EngineOptions o = options(4);
    o.caches = {.texts = 100, .pictures = 10, .image_bytes = 1 << 20, .coalesce = true};
    return o;
  }
  /// A text, a long one, a picture and one that has to be fitted, all of them new in every round.
  Request mixed(int round) const {
    Request r;
    r.texts = {std::vector<std::int32_t>{48, 5 + round % 40, 6 + round / 40, 49},
               std::string(5000, static_cast<char>('a' + round % 26)) + std::to_string(round)};
    for (const int side : {kSide, kSide + 5}) {
      auto pixels = std::make_shared<std::vector<std::uint8_t>>(static_cast<std::size_t>(side * side * 3));
      std::mt19937 random(static_cast<unsigned>(round));
      for (auto& byte : *pixels) byte = static_cast<std::uint8_t>(random());
      r.images.emplace_back(HostPixels{std::move(pixels), side, side});
    }
    return r;
  }
  /// null: refused for want of memory. here: the allocation of submit() that fails.
  static AnswerPtr send(Engine& engine, Request request, int here = -1) {
    auto answer = std::make_shared<Answer>();
    OnDone on_done = [answer](Outcome outcome) {
      if (++answer->times == 1) answer->promise.set_value(std::move(outcome));
    };
    try {
      left_here = here;
      engine.submit(std::move(request), std::move(on_done));
      left_here = -1;
    } catch (const std::bad_alloc&) {
      left_here = -1;
      EXPECT_EQ(answer->times, 0);
      return nullptr;
    }
    return answer;
  }
  /// Every item is `want`'s, or says that there was no memory: at most `most` of them. want null: any vector.
  static int without_memory(const AnswerPtr& answer, const Response* want) {
    if (answer == nullptr) return 0;
    if (!arrives(answer->future)) {
      ADD_FAILURE() << "not answered";
      return 0;
    }
    const Outcome outcome = answer->future.get();
    if (const auto* error = std::get_if<ItemError>(&outcome)) {
      EXPECT_EQ(error->code, Code::out_of_memory) << error->message;
      return 1;
    }
    const Response& got = std::get<Response>(outcome);
    int out = 0;
    for (const bool image : {true, false}) {
      const auto& items = image ? got.images : got.texts;
      for (std::size_t i = 0; i < items.size(); ++i) {
        if (items[i].error) {
          EXPECT_EQ(items[i].error->code, Code::out_of_memory) << items[i].error->message;
          EXPECT_FALSE(items[i].error->message.empty());
          ++out;
        } else if (want != nullptr) {
          EXPECT_EQ(items[i].values, (image ? want->images : want->texts)[i].values);
        } else {
          EXPECT_FALSE(items[i].values.empty());
        }
      }
    }
    return out;
  }
  /// Returns when the Context's pool has done what was posted so far.
  void pool_is_done() {
    auto& pool = context_.impl().decode;
    struct Meeting {
      std::mutex mutex;
      std::condition_variable changed;
      int there = 0;
    };
    const auto meeting = std::make_shared<Meeting>();
    for (int i = 0; i < pool.size(); ++i) {
      pool.post([meeting, all = pool.size()] {  // on every thread at the same time
        std::unique_lock lock(meeting->mutex);
        ++meeting->there;
        meeting->changed.notify_all();
        meeting->changed.wait(lock, [&] { return meeting->there == all; });
      });
    }
    std::unique_lock lock(meeting->mutex);
    meeting->changed.wait(lock, [&] { return meeting->there == pool.size(); });
  }
  /// A pass of each kind is under way, and none begins before the gates are open.
  std::pair<AnswerPtr, AnswerPtr> block(Engine& engine) {
    close_all();
    std::pair<AnswerPtr, AnswerPtr> out{send(engine, texts(11, 1)), send(engine, images(11, 1))};
    EXPECT_TRUE(gates_.under_way(false, 1) && gates_.under_way(true, 1));
    return out;
  }
};

TEST_F(MemoryFault, InSubmitIsToldOrThrownAndLosesNobodyElse) {
  Engine engine(context_, sharing());
  // The one that fails before others share its work, and after it found another's to share.
  for (const bool leads : {true, false}) {
    int n = 0, thrown = 0, told = 0;
    for (; n < 2000; ++n) {
      engine.clear_caches();
      const auto [text, image] = block(engine);
      AnswerPtr first = leads ? nullptr : send(engine, mixed(n));
      const int failures = failed;
      const AnswerPtr one = send(engine, mixed(n), n);
      const bool over = failed == failures;
      const AnswerPtr other = send(engine, mixed(n)), last = send(engine, mixed(n));
      open_all();
      thrown += one == nullptr;
      told += without_memory(one, nullptr);
      for (const AnswerPtr& whole : {first, other, last, text, image}) {
        EXPECT_EQ(without_memory(whole, nullptr), 0) << "allocation " << n;
      }
      ASSERT_EQ(engine.queued(), 0U) << "allocation " << n;
      ASSERT_FALSE(HasFailure()) << "allocation " << n;
      if (over) break;
    }
    EXPECT_GT(thrown, 2) << "before anything was taken";
    EXPECT_GT(told, 2);
    EXPECT_LT(n, 2000);
  }
}

TEST_F(MemoryFault, WhilePicturesAndTextsArePreparedLosesNobody) {
  Engine engine(context_, sharing());
  int n = 0, told = 0;
  for (; n < 2000; ++n) {
    engine.clear_caches();
    const auto [text, image] = block(engine);
    // The pool waits until all are there, so that the work that fails is shared.
    std::promise<void> go;
    const std::shared_future<void> going = go.get_future().share();
    for (int i = 0; i < context_.impl().decode.size(); ++i) {
      context_.impl().decode.post([going] { going.wait(); });
    }
    std::vector<AnswerPtr> all;
    for (int i = 0; i < 3; ++i) all.push_back(send(engine, mixed(n)));
    const int failures = failed;
    left_elsewhere = n;
    go.set_value();
    pool_is_done();
    const bool over = failed == failures;
    left_elsewhere = -1;
    open_all();
    int errors = 0;
    for (const AnswerPtr& one : all) errors += without_memory(one, nullptr);
    EXPECT_LE(errors, 1) << "allocation " << n << ": others had to try once more";
    for (const AnswerPtr& whole : {text, image}) EXPECT_EQ(without_memory(whole, nullptr), 0);
    told += errors;
    ASSERT_EQ(engine.queued(), 0U) << "allocation " << n;
    ASSERT_FALSE(HasFailure()) << "allocation " << n;
    if (over) break;
  }
  EXPECT_GT(n, 10);
  EXPECT_GT(told, 2);
}

TEST_F(MemoryFault, AnywhereInTheEngineLosesNobody) {
  Context plain({.threads = 2});
  Engine engine(plain, sharing());
  int told = 0;
  for (int n = 0; n < 400; ++n) {
    engine.clear_caches();
    left_elsewhere = n;
    std::vector<AnswerPtr> all;
    for (int i = 0; i < 6; ++i) all.push_back(send(engine, mixed(n / 2 + i % 2)));
    for (const AnswerPtr& one : all) told += without_memory(one, nullptr);
    left_elsewhere = -1;
    ASSERT_EQ(engine.queued(), 0U) << "allocation " << n;
    ASSERT_FALSE(HasFailure()) << "allocation " << n;
  }
  EXPECT_GT(told, 0);
  EXPECT_EQ(without_memory(send(engine, both()), nullptr), 0);
}

}  // namespace
}  // namespace tandem::engine
