// Engines on gated backends, their inputs, and the vectors that they owe.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <future>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "engine/context_impl.h"
#include "source_dir.h"
#include "tandem/engine.h"
#include "unit/engine/gated_backend.h"

namespace tandem::engine::test {

class GatedEngine : public testing::Test {
 protected:
  GatedEngine() {
    std::mt19937 random(5);
    for (int i = 0; i < static_cast<int>(kItems); ++i) {
      auto pixels = std::make_shared<std::vector<std::uint8_t>>(std::size_t{kSide} * kSide * 3);
      for (auto& byte : *pixels) byte = static_cast<std::uint8_t>(random());
      images_.emplace_back(HostPixels{std::move(pixels), kSide, kSide});
      texts_.emplace_back(std::vector<std::int32_t>{48, 5 + i, 6, 49});
    }
    Context plain({.threads = 1});
    Engine engine(plain, options(static_cast<int>(kItems)));
    want_images_ = engine.embed_images(images_), want_texts_ = engine.embed_texts(texts_);
    context_.impl().make_backend = [this](DeviceId, const ContextOptions&, const engine::Place&) {
      return std::make_unique<GatedBackend>(gates_);
    };
  }
  ~GatedEngine() override { open_all(); }

  static EngineOptions options(int batch, int replicas = 1) {
    EngineOptions o;
    o.model = (tandem::test::source_dir() / "tests/golden/tiny/hf_quickgelu").string();
    o.device = parse_device("reference");
    o.max_batch = batch, o.replicas = replicas;
    return o;
  }
  void open_all() { gates_.open(true), gates_.open(false), gates_.let_make(true); }
  void close_all() { gates_.close(true), gates_.close(false); }

  Request images(std::size_t first = 0, std::size_t count = kItems) const {
    Request r;
    for (std::size_t i = first; i < first + count; ++i) r.images.push_back(images_[i]);
    return r;
  }
  Request texts(std::size_t first = 0, std::size_t count = kItems) const {
    Request r;
    for (std::size_t i = first; i < first + count; ++i) r.texts.push_back(texts_[i]);
    return r;
  }
  Request both() const {
    Request out = images();
    out.texts = texts().texts;
    return out;
  }
  /// A response, or why there is none: without an exception that two threads would hold.
  using Outcome = std::variant<Response, ItemError>;
  static std::future<Outcome> ask(Engine& engine, Request request) {
    auto promise = std::make_shared<std::promise<Outcome>>();
    auto future = promise->get_future();
    engine.submit(std::move(request), [promise](Outcome outcome) { promise->set_value(std::move(outcome)); });
    return future;
  }
  void expect_right(const Outcome& outcome, std::size_t first = 0) const {
    const auto* error = std::get_if<ItemError>(&outcome);
    ASSERT_EQ(error, nullptr) << error->message;
    const Response& r = std::get<Response>(outcome);
    for (std::size_t i = 0; i < r.images.size(); ++i) expect_same(r.images[i], want_images_[first + i]);
    for (std::size_t i = 0; i < r.texts.size(); ++i) expect_same(r.texts[i], want_texts_[first + i]);
  }
  static void expect_same(const Embedding& got, const Embedding& want) {
    ASSERT_FALSE(got.error) << got.error->message;
    EXPECT_EQ(got.values, want.values);
  }
  /// Whether an answer is there within half a minute.
  static bool arrives(const std::future<Outcome>& answer) {
    return answer.wait_for(std::chrono::seconds(30)) == std::future_status::ready;
  }
  void expect_both_answered(Engine& engine) const {
    auto answer = ask(engine, both());
    ASSERT_TRUE(arrives(answer));
    expect_right(answer.get());
  }
  static bool waits(const std::future<Outcome>& answer) {
    return answer.wait_for(std::chrono::milliseconds(20)) != std::future_status::ready;
  }
  /// The error of an answer: the request's, or its first item's.
  static ItemError error_of(std::future<Outcome>& answer) {
    const Outcome outcome = answer.get();
    if (const auto* error = std::get_if<ItemError>(&outcome)) return *error;
    const Response& r = std::get<Response>(outcome);
    for (const auto* items : {&r.images, &r.texts}) {
      if (!items->empty() && items->front().error) return *items->front().error;
    }
    return {Code::internal, "no error"};
  }
  bool was_said(std::string_view part) {
    const std::lock_guard lock(log_mutex_);
    return std::any_of(log_.begin(), log_.end(), [&](const std::string& line) { return line.find(part) != line.npos; });
  }
  template <class Condition>
  static bool eventually(Condition condition) {
    const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!condition()) {
      if (std::chrono::steady_clock::now() > patience) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
  }

  static constexpr int kSide = 28;
  static constexpr std::size_t kItems = 12;
  Gates gates_;
  std::mutex log_mutex_;
  std::vector<std::string> log_;
  Context context_{{.threads = 2, .log = [this](int, std::string_view line) {
                      const std::lock_guard lock(log_mutex_);
                      log_.emplace_back(line);
                    }}};
  std::vector<ImageInput> images_;
  std::vector<TextInput> texts_;
  std::vector<Embedding> want_images_, want_texts_;
};

}  // namespace tandem::engine::test
