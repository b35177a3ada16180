// Replicas and Engines of one Context: weights once, one memory budget, work for whoever is free, and replicas that
// fail alone.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <mutex>
#include <set>
#include <thread>

#include "backend/reference/reference_backend.h"
#include "base/strings.h"
#include "engine/context_impl.h"
#include "engine/workers.h"
#include "tandem/engine.h"
#include "unit/model/forwarding_backend.h"

namespace tandem {
namespace {

namespace fs = std::filesystem;
using engine::MemoryBudget;

const std::string kTiny = std::string(TANDEM_SOURCE_DIR) + "/tests/golden/tiny/";

EngineOptions options(const std::string& model = kTiny + "hf_quickgelu") {
  EngineOptions o;
  o.model = model;
#ifdef TANDEM_TEST_DEVICE
  o.device = parse_device(TANDEM_TEST_DEVICE);
#else
  o.device = parse_device("cpu");
#endif
  o.precision = Precision::fp32;
  return o;
}

std::vector<TextInput> texts() {
  std::vector<TextInput> out;
  for (std::int32_t i = 0; i < 6; ++i) out.emplace_back(std::vector<std::int32_t>{1, 3 + i, 7, 2});
  return out;
}

std::vector<ImageInput> images(int size, int count = 5) {
  std::vector<ImageInput> out;
  for (int i = 0; i < count; ++i) {
    auto pixels = std::make_shared<std::vector<std::uint8_t>>(static_cast<std::size_t>(size * size * 3));
    for (std::size_t k = 0; k < pixels->size(); ++k) (*pixels)[k] = static_cast<std::uint8_t>(k * (7 + i) % 251);
    out.emplace_back(HostPixels{std::move(pixels), size, size});
  }
  return out;
}

void expect_same(const std::vector<Embedding>& got, const std::vector<Embedding>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_FALSE(got[i].error) << got[i].error->message;
    EXPECT_EQ(got[i].values, want[i].values) << i;
  }
}

std::string out_of_memory_message(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::out_of_memory) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

TEST(MemoryBudget, CountsReservesAndGivesBack) {
  MemoryBudget budget(1000);
  {
    auto a = budget.reserve(600, "a");
    EXPECT_EQ(budget.left(), 400u);
    const std::string message = out_of_memory_message([&] { budget.reserve(401, "b"); });
    for (const char* part : {"b need 401 bytes", "600 of", "budget of 1000"}) {
      EXPECT_NE(message.find(part), std::string::npos) << message;
    }
    auto b = budget.reserve(400, "b");
    EXPECT_EQ(budget.left(), 0u);
    b.resize(100, "b");
    a.resize(800, "a");
    EXPECT_EQ(budget.used(), 900u);
    EXPECT_THROW(a.resize(901, "a"), Error);
    EXPECT_EQ(a.bytes(), 800u);
    const MemoryBudget::Reservation moved = std::move(a);
    a = {};
    EXPECT_EQ(budget.used(), 900u);
  }
  EXPECT_EQ(budget.used(), 0u);
  MemoryBudget unlimited(0);
  const auto all = unlimited.reserve(std::size_t{1} << 60, "everything");
  EXPECT_EQ(unlimited.used(), std::size_t{1} << 60);
  EXPECT_GT(unlimited.left(), std::size_t{1} << 62);
}

TEST(SharedWeights, TwoEnginesCountThemOnceAndGiveTheSameVectors) {
  Context context({.threads = 2});
  EXPECT_EQ(context.memory_used(), 0u);
  auto first = std::make_unique<Engine>(context, options());
  const EngineInfo info = first->info();
  EXPECT_EQ(context.memory_used(), info.weight_bytes + info.arena_bytes);
  const auto want_texts = first->embed_texts(texts());
  const auto want_images = first->embed_images(images(info.input_size));
  {
    // The same folder by another name.
    Engine second(context, options(kTiny + "../tiny/hf_quickgelu/"));
    EXPECT_EQ(second.info().weight_bytes, info.weight_bytes);
    EXPECT_EQ(context.memory_used(), info.weight_bytes + 2 * info.arena_bytes);
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        Engine& engine = t % 2 == 0 ? *first : second;
        for (int round = 0; round < 20; ++round) {
          expect_same(engine.embed_texts(texts()), want_texts);
          expect_same(engine.embed_images(images(info.input_size)), want_images);
        }
      });
    }
    for (auto& t : threads) t.join();
    first.reset();  // who loaded them may go first
    EXPECT_EQ(context.memory_used(), info.weight_bytes + info.arena_bytes);
    expect_same(second.embed_texts(texts()), want_texts);
  }
  EXPECT_EQ(context.memory_used(), 0u);
}

TEST(SharedWeights, QuantisedRowsAreCountedWithTheActivations) {
  Context context({.threads = 2});
  EngineOptions o = options();
  o.max_batch = 6;
  const auto backend = engine::make_backend(o.device, {});
  const auto arena = [&](Precision precision) {
    o.precision = precision;
    const Engine engine(context, o);
    EXPECT_EQ(context.memory_used(), engine.info().weight_bytes + engine.info().arena_bytes);
    return engine.info().arena_bytes;
  };
  // 6 pictures of 17 rows or texts of 20, where the MLPs are widest.
  const std::size_t rows = std::max(backend->linear_scratch(6 * 17, 64, Precision::int8),
                                    backend->linear_scratch(6 * 20, 48, Precision::int8));
  EXPECT_EQ(arena(Precision::int8), arena(backend->kept(Precision::int8)) + rows);
}

TEST(SharedWeights, OnlyEqualOnesAreShared) {
  Context context({.threads = 1});
  Engine whole(context, options());
  EngineOptions o = options();
  o.load_text = false;
  Engine vision(context, o);
  EXPECT_LT(vision.info().weight_bytes, whole.info().weight_bytes);
  Engine other(context, options(kTiny + "hf_gelu_head80"));
  EXPECT_EQ(context.memory_used(), whole.info().weight_bytes + whole.info().arena_bytes + vision.info().weight_bytes +
                                       vision.info().arena_bytes + other.info().weight_bytes +
                                       other.info().arena_bytes);
  Context apart({.threads = 1});
  Engine elsewhere(apart, options());
  EXPECT_EQ(apart.memory_used(), elsewhere.info().weight_bytes + elsewhere.info().arena_bytes);
}

TEST(SharedWeights, AChangedFolderIsLoadedAnew) {
  const fs::path folder = fs::temp_directory_path() / cat("tandem_changed_", getpid());
  fs::remove_all(folder);
  fs::copy(kTiny + "hf_quickgelu", folder);
  Context context({.threads = 1});
  Engine before(context, options(folder.string()));
  const auto want = before.embed_images(images(before.info().input_size));
  // Another checkpoint under the old name (the one that is mapped keeps its bytes), then another configuration.
  std::fstream file(folder / "model.safetensors", std::ios::in | std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(file), {}};
  file.close();
  const std::size_t at = bytes.size() - 4000;  // the lowest bits of floats
  for (std::size_t i = at; i < at + 2000; i += 4) bytes[i] = static_cast<char>(bytes[i] ^ 1);
  fs::remove(folder / "model.safetensors");
  std::ofstream(folder / "model.safetensors", std::ios::binary) << bytes;
  Engine after(context, options(folder.string()));
  EXPECT_NE(after.info().model_hash, before.info().model_hash);
  EXPECT_GE(context.memory_used(), 2 * before.info().weight_bytes);
  std::ofstream(folder / "preprocessor_config.json")
      << R"({"image_mean": [0.1, 0.2, 0.3], "size": 28, "crop_size": 28})";
  Engine normalised(context, options(folder.string()));
  EXPECT_EQ(normalised.info().model_hash, after.info().model_hash);
  EXPECT_GE(context.memory_used(), 3 * before.info().weight_bytes);
  EXPECT_NE(normalised.embed_images(images(before.info().input_size))[0].values, want[0].values);
  expect_same(before.embed_images(images(before.info().input_size)), want);
  fs::remove_all(folder);
}

std::size_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::size_t total = 0, resident = 0;
  statm >> total >> resident;
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

TEST(SharedWeights, ASecondEngineTakesNoMemoryForThem) {
  EngineOptions o = options("random:ViT-B-32");
  o.load_vision = false, o.max_batch = 1;
  Context context({.threads = 2});
  Engine first(context, o);
  const std::size_t weights = first.info().weight_bytes, before = resident_bytes();
  EXPECT_GT(weights, std::size_t{200} << 20);
  EXPECT_GT(before, weights);
  Engine second(context, o);
  EXPECT_EQ(context.memory_used(), weights + first.info().arena_bytes + second.info().arena_bytes);
  EXPECT_LT(resident_bytes(), before + weights / 5);
}

/// What the backends of a Context did, and what they are to do.
struct Watch {
  std::mutex mutex;
  std::set<std::thread::id> threads;    // that embedded tokens
  std::atomic<int> projections{0};      // weights prepared
  std::atomic<int> inside{0}, most{0};  // passes at the same time
  std::atomic<int> fail{0};             // passes that are to fail
  std::chrono::milliseconds slow{0};
};

class WatchedBackend final : public backend::test::ForwardingBackend {
 public:
  explicit WatchedBackend(Watch& watch) : ForwardingBackend(backend::make_reference_backend()), watch_(watch) {}
  std::unique_ptr<backend::PreparedWeight> prepare_projection(ConstView w) override {
    ++watch_.projections;
    return ForwardingBackend::prepare_projection(w);
  }
  void embed_tokens(const backend::EmbedTokensArgs& a) override {
    {
      const std::lock_guard lock(watch_.mutex);
      watch_.threads.insert(std::this_thread::get_id());
    }
    const int now = ++watch_.inside;
    for (int most = watch_.most; most < now && !watch_.most.compare_exchange_weak(most, now);) {
    }
    std::this_thread::sleep_for(watch_.slow);
    --watch_.inside;
    if (watch_.fail > 0 && watch_.fail-- > 0) throw Error(Code::device_failure, "the device fell off the bus");
    ForwardingBackend::embed_tokens(a);
  }

 private:
  Watch& watch_;
};

void watch_backends(Context& context, Watch& watch) {
  context.impl().make_backend = [&watch](DeviceId, const ContextOptions&, const engine::Place&) {
    return std::make_unique<WatchedBackend>(watch);
  };
}

TEST(Replicas, ShareWeightsAndWork) {
  Watch watch;
  Context context({.threads = 1});
  watch_backends(context, watch);
  EngineOptions o = options();
  const auto want = Engine(context, o).embed_texts(texts());
  watch.projections = 0, watch.threads.clear(), watch.most = 0;
  o.replicas = 3;
  Engine engine(context, o);
  EXPECT_EQ(engine.info().replicas, 3);
  EXPECT_EQ(engine.working_replicas(), 3);
  EXPECT_EQ(watch.projections, 2);  // one a tower
  EXPECT_EQ(context.memory_used(), engine.info().weight_bytes + engine.info().arena_bytes);
  watch.slow = std::chrono::milliseconds(20);
  // A request that one pass could hold is shared between those that are free.
  expect_same(engine.embed_texts(texts()), want);
  std::vector<std::thread> threads;
  for (int t = 0; t < 6; ++t) {
    threads.emplace_back([&] {
      for (int round = 0; round < 5; ++round) expect_same(engine.embed_texts(texts()), want);
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(watch.threads.size(), 3u);
  EXPECT_EQ(watch.most, 3);
  EXPECT_EQ(engine.queued(), 0u);
}

TEST(Replicas, OneThatFailsLeavesTheOthersWorking) {
  Watch watch;
  std::atomic<int> said{0};
  ContextOptions c;
  c.threads = 1;
  c.log = [&](int level, std::string_view line) { said += level == 3 && line.find("1 of 2 are left") != line.npos; };
  Context context(c);
  watch_backends(context, watch);
  context.impl().replace_after.assign(2, std::chrono::milliseconds(1));
  EngineOptions o = options();
  o.replicas = 2;
  Engine engine(context, o);
  context.impl().make_backend = [](DeviceId, const ContextOptions&,
                                   const engine::Place&) -> std::unique_ptr<backend::Backend> {
    throw Error(Code::device_failure, "no device any more");
  };
  watch.fail = 1;
  const TextInput one = texts()[0];
  EXPECT_EQ(engine.embed_texts({&one, 1})[0].error.value().code, Code::device_failure);
  while (said == 0) std::this_thread::yield();  // said last, after the answer and the count
  EXPECT_EQ(engine.working_replicas(), 1);
  EXPECT_TRUE(engine.healthy());
  EXPECT_EQ(said, 1);
  for (const Embedding& e : engine.embed_texts(texts())) EXPECT_FALSE(e.error);
  watch.fail = 1;
  EXPECT_EQ(engine.embed_texts({&one, 1})[0].error.value().code, Code::device_failure);
  while (engine.healthy()) std::this_thread::yield();
  EXPECT_EQ(engine.working_replicas(), 0);
  try {
    while (true) engine.embed_texts({&one, 1});  // until the queue has heard of it
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::device_failure);
    EXPECT_NE(std::string(e.what()).find("no device any more"), std::string::npos) << e.what();
  }
}

TEST(Replicas, OfTwoEnginesMadeAtOnceLoadOnce) {
  for (int round = 0; round < 5; ++round) {
    Watch watch;
    Context context({.threads = 2});
    watch_backends(context, watch);
    std::vector<std::unique_ptr<Engine>> engines(4);
    std::vector<std::thread> threads;
    for (auto& e : engines) threads.emplace_back([&] { e = std::make_unique<Engine>(context, options()); });
    for (auto& t : threads) t.join();
    EXPECT_EQ(watch.projections, 2);
    EXPECT_EQ(context.memory_used(), engines[0]->info().weight_bytes + 4 * engines[0]->info().arena_bytes);
  }
}

TEST(Replicas, OfAProcessorDivideItsThreads) {
  EngineOptions o = options();
  Context one({.threads = 1});
  const auto want = Engine(one, o).embed_texts(texts());
  o.replicas = 0;
  EXPECT_EQ(Engine(one, o).info().replicas, 1);
  Context several({.threads = 3});
  Engine engine(several, o);
  if (!engine::is_divided(engine::resolve(o.device, {})))
    GTEST_SKIP() << "here is a GPU, or oneDNN has threads of its own";
  EXPECT_EQ(engine.info().replicas, 3);
  std::vector<std::thread> threads;
  for (int t = 0; t < 6; ++t) {
    threads.emplace_back([&] {
      for (int round = 0; round < 5; ++round) expect_same(engine.embed_texts(texts()), want);
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(several.impl().cores->passes, 0);
  EXPECT_EQ(several.impl().cores->preparing, 0);
}

TEST(Replicas, WhereMemoryIsShortThereIsOne) {
  EngineOptions o = options();
  std::size_t enough = 0;
  {
    Context context({.threads = 1});
    o.max_batch = 1;
    enough = Engine(context, o).info().weight_bytes;
    Engine engine(context, o);
    enough += engine.info().arena_bytes;
  }
  ContextOptions c;
  c.threads = 4;
  c.memory_budget = enough;
  Context context(c);
  o.replicas = 0;
  EXPECT_EQ(Engine(context, o).info().replicas, 1);
}

TEST(Replicas, AreRefusedBeyondReason) {
  Context context({.threads = 1});
  for (const int replicas : {-1, 100000}) {
    EngineOptions o = options();
    o.replicas = replicas;
    EXPECT_THROW(Engine(context, o), Error) << replicas;
  }
}

TEST(Budget, IsOneForAllEnginesOfAContext) {
  std::size_t weights = 0, arena = 0;
  {
    Context context({.threads = 1});
    EngineOptions o = options();
    o.max_batch = 1;
    Engine engine(context, o);
    weights = engine.info().weight_bytes, arena = engine.info().arena_bytes;
  }
  ASSERT_GT(weights, 0u);
  const std::size_t allowed = weights + 2 * arena + arena / 2;
  Context context({.threads = 1, .memory_budget = allowed});
  EngineOptions o = options();
  o.max_batch = 1;
  auto first = std::make_unique<Engine>(context, o);
  auto second = std::make_unique<Engine>(context, o);
  std::string message = out_of_memory_message([&] { Engine(context, o); });
  for (const std::size_t n : {arena, weights + 2 * arena, allowed}) {
    EXPECT_NE(message.find(std::to_string(n)), std::string::npos) << n << " is not in: " << message;
  }
  EXPECT_EQ(context.memory_used(), weights + 2 * arena);
  // Weights that do not fit are not even read.
  message = out_of_memory_message([&] { Engine(context, options("random:ViT-bigG-14")); });
  EXPECT_NE(message.find("random:ViT-bigG-14"), std::string::npos) << message;
  second.reset();
  EXPECT_EQ(context.memory_used(), weights + arena);
  EXPECT_NO_THROW(Engine(context, o));
  first.reset();
  EXPECT_EQ(context.memory_used(), 0u);

  // Batches shrink to what is left, so that every replica finds room.
  EngineOptions two = options();
  two.replicas = 2;
  Engine engine(context, two);
  EXPECT_LE(context.memory_used(), allowed);
  EXPECT_EQ(context.memory_used(), weights + engine.info().arena_bytes);
  for (const Embedding& e : engine.embed_texts(texts())) EXPECT_FALSE(e.error);
}

TEST(Workers, AFailureEndsThoseThatWereMade) {
  std::atomic<int> made{0};
  try {
    engine::Workers workers(3, [&](int index, int) -> std::unique_ptr<engine::Replica> {
      ++made;
      if (index == 1) throw Error(Code::device_failure, "no second device");
      return nullptr;
    });
    FAIL() << "the failure was lost";
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "no second device");
  }
  EXPECT_EQ(made, 2);
}

}  // namespace
}  // namespace tandem
