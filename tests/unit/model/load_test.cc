// Loading with several threads: the same weights, the same accounts, and the same error as with one.
#include <gtest/gtest.h>

#include <mutex>
#include <set>

#include "backend/reference/reference_backend.h"
#include "tandem/error.h"
#include "unit/model/small_model.h"

namespace tandem::model {
namespace {

/// A source that lets a tensor be wrong, and knows which were read and not released.
class CheckedSource final : public WeightSource {
 public:
  CheckedSource(const Config& config, const std::string& damaged, std::set<std::string>& out) : to_(config), out_(out) {
    if (!damaged.empty()) {
      const ConstView v = to_.get(damaged);
      const_cast<std::uint32_t*>(v.as<std::uint32_t>())[v.shape.elements() / 2] = 0x7fc00000u;  // not a number
    }
  }
  std::vector<std::string> names() const override { return to_.names(); }
  std::optional<Info> find(std::string_view name) const override { return to_.find(name); }
  ConstView get(std::string_view name) override {
    const std::lock_guard lock(mutex_);
    out_.emplace(name);
    return to_.get(name);
  }
  void release(std::string_view name) override {
    const std::lock_guard lock(mutex_);
    out_.erase(std::string(name));
  }
  std::string hash() const override { return to_.hash(); }

 private:
  test::SeededSource to_;
  std::mutex mutex_;
  std::set<std::string>& out_;
};

std::vector<float> vectors(const Model& m, backend::Backend& backend) {
  parallel::Alone alone;
  Arena arena(backend.allocate(1 << 20));
  Execution ex{backend, arena, alone, m.precision};
  return test::all_vectors(ex, m);
}

TEST(Load, SeveralThreadsLoadTheSame) {
  for (const bool patch_bias : {false, true}) {
    Config config = test::small_config();
    config.vision.patch_bias = patch_bias;
    ModelFiles files = test::small_files(config);
    std::set<std::string> unreleased;
    files.open_weights = [&] { return std::make_unique<CheckedSource>(config, "", unreleased); };
    auto backend = backend::make_reference_backend();
    const Model one = load_model(files, *backend, {});
    EXPECT_TRUE(unreleased.empty()) << *unreleased.begin();
    std::size_t elements = 0;
    for (const WeightSpec& spec : weight_table(config)) elements += static_cast<std::size_t>(spec.shape.elements());
    EXPECT_EQ(one.parameters, elements);
    EXPECT_EQ(one.weight_bytes, expected_weight_bytes(config, *backend, {}));
    const auto want = vectors(one, *backend);
    ThreadPool pool(3);
    for (int round = 0; round < 10; ++round) {
      LoadOptions options;
      options.threads = 4, options.pool = &pool;
      const Model several = load_model(files, *backend, options);
      EXPECT_TRUE(unreleased.empty()) << *unreleased.begin();
      EXPECT_EQ(several.parameters, one.parameters);
      EXPECT_EQ(several.weight_bytes, one.weight_bytes);
      EXPECT_EQ(several.logit_scale, one.logit_scale);
      EXPECT_EQ(vectors(several, *backend), want);
    }
    LoadOptions text_only;
    text_only.vision = false;
    const Model text = load_model(files, *backend, text_only);
    EXPECT_EQ(text.weight_bytes, expected_weight_bytes(config, *backend, text_only));
    EXPECT_FALSE(text.vision);
  }
}

TEST(Load, ADamagedTensorIsNamedWhateverTheThreads) {
  const Config config = test::small_config();
  ModelFiles files = test::small_files(config);
  std::set<std::string> unreleased;
  auto backend = backend::make_reference_backend();
  ThreadPool pool(3);
  for (const char* damaged : {"vision.blocks.1.mlp.fc2.weight", "text.blocks.1.attn.qkv.bias", "logit_scale"}) {
    files.open_weights = [&] { return std::make_unique<CheckedSource>(config, damaged, unreleased); };
    for (int threads = 1; threads <= 4; ++threads) {
      LoadOptions options;
      options.threads = threads, options.pool = &pool;
      try {
        load_model(files, *backend, options);
        ADD_FAILURE() << damaged;
      } catch (const Error& e) {
        EXPECT_EQ(e.code(), Code::bad_data);
        EXPECT_NE(std::string(e.what()).find(damaged), std::string::npos) << e.what();
      }
    }
  }
}

}  // namespace
}  // namespace tandem::model
