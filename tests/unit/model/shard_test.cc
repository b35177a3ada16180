// Models divided over ranks by the table's Shard column give one rank's vectors, and blocks are used only while held.
#include "model/shard.h"

#include <gtest/gtest.h>

#include <cstring>
#include <set>
#include <thread>

#include "backend/reference/reference_backend.h"
#include "base/strings.h"
#include "parallel/in_process.h"
#include "tolerance.h"
#include "unit/model/forwarding_backend.h"
#include "unit/model/small_model.h"

namespace tandem::model {
namespace {

using backend::test::ForwardingBackend;
using test::all_vectors;
using test::small_config;
using test::small_files;

constexpr std::size_t kArena = 1 << 20;

WeightReader::Loaded counting(Shape shape) {
  WeightReader::Loaded out;
  out.owned = host_tensor(DType::f32, shape);
  for (std::int64_t i = 0; i < shape.elements(); ++i) out.owned.view().as<float>()[i] = static_cast<float>(i);
  out.view = out.owned.view();
  return out;
}

TEST(Shard, RowsColumnsAndHeads) {
  const auto part = [](Shape shape, Shard how, int rank, int ranks) {
    const auto p = shard(counting(shape), how, rank, ranks);
    EXPECT_EQ(p.view.shape, shard_shape({"", shape, how}, ranks));
    EXPECT_TRUE(p.view.contiguous());
    return test::floats(p.view);
  };
  using V = std::vector<float>;
  EXPECT_EQ(part({4, 2}, Shard::rows, 1, 2), (V{4, 5, 6, 7}));
  EXPECT_EQ(part({2, 4}, Shard::columns, 1, 2), (V{2, 3, 6, 7}));
  EXPECT_EQ(part({6, 1}, Shard::heads, 0, 2), (V{0, 2, 4}));
  EXPECT_EQ(part({6, 1}, Shard::heads, 1, 2), (V{1, 3, 5}));
  EXPECT_EQ(part({12}, Shard::heads, 1, 2), (V{2, 3, 6, 7, 10, 11}));
  EXPECT_EQ(part({4}, Shard::rows, 0, 4), (V{0}));
  EXPECT_EQ(part({3}, Shard::replicated, 1, 2), (V{0, 1, 2}));
}

TEST(Shard, RefusesWhatDoesNotDivide) {
  const Config c = small_config();
  EXPECT_NO_THROW(check_ranks(c, 3, 4));
  EXPECT_THROW(check_ranks(c, 0, 3), Error);  // 4 heads
  EXPECT_THROW(check_ranks(c, 2, 2), Error);
  EXPECT_THROW(check_ranks(c, 0, 0), Error);
  auto backend = backend::make_reference_backend();
  LoadOptions options;
  options.tensor_ranks = 8;
  EXPECT_THROW(load_model(small_files(), *backend, options), Error);
}

/// Counts sums and remembers on which stream they were asked for.
class Watched final : public parallel::Communicator {
 public:
  explicit Watched(parallel::Communicator& to) : to_(to) {}
  int rank() const noexcept override { return to_.rank(); }
  int size() const noexcept override { return to_.size(); }
  void all_reduce_sum(View x, void* stream) override {
    ++sums;
    streams.insert(stream);
    to_.all_reduce_sum(x, stream);
  }
  int sums = 0;
  std::set<void*> streams;

 private:
  parallel::Communicator& to_;
};

TEST(TensorParallel, EqualsOneRank) {
  const ModelFiles files = small_files();
  auto alone_backend = backend::make_reference_backend();
  const Model whole = load_model(files, *alone_backend, {});
  Arena arena(alone_backend->allocate(kArena));
  parallel::Alone alone;
  Execution ex{*alone_backend, arena, alone, whole.precision};
  const auto want = all_vectors(ex, whole);

  for (const int ranks : {2, 4}) {
    auto group = parallel::make_in_process(ranks);
    std::vector<std::vector<float>> got(static_cast<std::size_t>(ranks));
    std::vector<std::thread> threads;
    for (int r = 0; r < ranks; ++r) {
      threads.emplace_back([&, r] {
        const auto comm = std::move(group[static_cast<std::size_t>(r)]);
        Watched watched(*comm);
        ForwardingBackend backend(backend::make_reference_backend());
        backend.stream_mark = &watched;
        LoadOptions options;
        options.tensor_rank = r, options.tensor_ranks = ranks;
        const Model part = load_model(files, backend, options);
        EXPECT_EQ(part.parameters, whole.parameters);
        EXPECT_LT(part.weight_bytes, whole.weight_bytes);
        EXPECT_EQ(part.weight_bytes, expected_weight_bytes(part.config, backend, options));
        const auto& block = *HeldBlock(*part.vision->blocks, 0, backend);
        EXPECT_EQ(block.qkv.weight->outputs(), 3 * 32 / ranks);
        EXPECT_EQ(block.out.weight->inputs(), 32 / ranks);
        Arena own(backend.allocate(kArena));
        Execution execution{backend, own, watched, part.precision};
        got[static_cast<std::size_t>(r)] = all_vectors(execution, part);
        // Two sums a block: one pass of pictures, two of texts.
        EXPECT_EQ(watched.sums, 2 * (3 + 2 * 2));
        EXPECT_EQ(watched.streams, std::set<void*>{&watched});
      });
    }
    for (auto& t : threads) t.join();
    for (const auto& v : got) {
      ASSERT_EQ(v.size(), want.size());
      EXPECT_GE(tandem::test::cosine(v, want), 0.9999999) << ranks;
      EXPECT_LE(tandem::test::largest_difference(v, want), 1e-5) << ranks;
      EXPECT_EQ(v, got[0]) << "ranks differ";
    }
  }
}

/// Lends blocks that exist only while they are held: each is loaded by fetch() and destroyed by release().
class LendingStore final : public BlockStore {
 public:
  LendingStore(const ModelFiles& files, std::vector<std::string>& events) : files_(files), events_(events) {}
  int count() const override { return files_.config.vision.layers; }
  const BlockWeights& fetch(int i, backend::Backend& user) const override {
    EXPECT_EQ(held, nullptr) << "two blocks are held";
    events_.push_back(cat("fetch ", i));
    LoadOptions options;
    options.text = false;
    model_ = load_model(files_, user, options);
    held = &model_.vision->blocks->fetch(i, user);
    return *held;
  }
  void release(int i, backend::Backend&) const noexcept override {
    events_.push_back(cat("release ", i));
    held = nullptr;
    model_ = {};
  }
  mutable const BlockWeights* held = nullptr;

 private:
  const ModelFiles& files_;
  std::vector<std::string>& events_;
  mutable Model model_;
};

struct Lending {
  Lending() : model(load_model(files, backend, {})) {
    parallel::Alone alone;
    Execution ex{backend, arena, alone, model.precision};
    want = vectors(ex);
    auto lent = std::make_unique<LendingStore>(files, events);
    store = lent.get();
    model.vision->blocks = std::move(lent);
  }
  std::vector<float> vectors(Execution& ex) {
    const test::SmallInputs in(model.config);
    return test::floats(
        encode_images(ex, model.config.vision, *model.vision, model.config.embed_dim, in.pixels.view(), {}).projected);
  }
  ModelFiles files = small_files();
  ForwardingBackend backend{backend::make_reference_backend()};
  Model model;
  Arena arena{backend.allocate(kArena)};
  std::vector<float> want;
  std::vector<std::string> events;
  LendingStore* store = nullptr;
};

const std::vector<std::string> kInOrder{"fetch 0", "release 0", "fetch 1", "release 1", "fetch 2", "release 2"};

TEST(BlockStore, BlocksAreFetchedInOrderAndUsedOnlyWhileHeld) {
  Lending l;
  parallel::Alone alone;
  Execution ex{l.backend, l.arena, alone, l.model.precision};
  int used = 0;
  l.backend.on_linear = [&](const backend::LinearArgs& a) {
    ASSERT_NE(l.store->held, nullptr) << "a block's weight after its release";
    const BlockWeights& b = *l.store->held;
    for (const Linear* w : {&b.qkv, &b.q, &b.kv, &b.out, &b.fc1, &b.fc2}) used += w->weight.get() == a.weight;
  };
  EXPECT_EQ(l.vectors(ex), l.want);
  EXPECT_EQ(l.events, kInOrder);
  EXPECT_EQ(used, 2 * 4 + 5);  // the last block multiplies queries apart
}

TEST(BlockStore, APassThatFailsReleasesItsBlockAndTheNextBeginsAgain) {
  Lending l;
  parallel::Alone alone;
  Execution ex{l.backend, l.arena, alone, l.model.precision};
  int calls = 0;
  l.backend.on_linear = [&](const backend::LinearArgs&) {
    if (++calls == 6) throw Error(Code::device_failure, "the device is gone");
  };
  EXPECT_THROW(l.vectors(ex), Error);
  EXPECT_EQ(l.events, (std::vector<std::string>{"fetch 0", "release 0", "fetch 1", "release 1"}));
  l.events.clear();
  l.backend.on_linear = {};
  EXPECT_EQ(l.vectors(ex), l.want);
  EXPECT_EQ(l.events, kInOrder);
}

}  // namespace
}  // namespace tandem::model
