// A device that works beside the host and is as slow as a test wants: what was begun is there only once its kind's gate
// is open. It counts what is under way, and fails where it is told to.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "backend/reference/reference_backend.h"
#include "base/strings.h"
#include "unit/model/forwarding_backend.h"

namespace tandem::engine::test {

/// What a test sees of all backends of a Context, and what it wants of them. Index 0: texts, 1: images.
class Gates {
 public:
  void open(bool image) {
    set([&] { open_[image ? 1 : 0] = true; });
  }
  void close(bool image) {
    set([&] { open_[image ? 1 : 0] = false; });
  }
  /// The next `times` passes of a kind that are waited for fail so.
  void fail(bool image, Error error, int times = 1) {
    set([&] { failures_[image ? 1 : 0] = {std::move(error), times}; });
  }
  /// The next `times` backends cannot be made.
  void fail_making(int times) {
    set([&] { unmakable_ = times; });
  }
  /// Whether backends are made at once, or only after this is set again.
  void let_make(bool may) {
    set([&] { may_make_ = may; });
  }
  /// Passes of more than `rows` rows run out of memory.
  void set_most_rows(std::int64_t rows) { most_rows_ = rows; }
  /// Rows of the largest pass since this was last asked.
  std::int64_t largest_pass() { return largest_.exchange(0); }
  /// Waits until so many passes of a kind are under way; false: they are not, for half a minute.
  bool under_way(bool image, int count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(30), [&] { return under_way_[image ? 1 : 0] == count; });
  }
  /// The same for at least one.
  bool under_way(bool image) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(30), [&] { return under_way_[image ? 1 : 0] > 0; });
  }
  int made() {
    const std::lock_guard lock(mutex_);
    return made_;
  }
  int prepared() {
    const std::lock_guard lock(mutex_);
    return prepared_;
  }

 private:
  friend class GatedBackend;
  template <class Change>
  void set(Change change) {
    {
      const std::lock_guard lock(mutex_);
      change();
    }
    changed_.notify_all();
  }
  struct Failure {
    std::optional<Error> error;
    int times = 0;
  };
  std::mutex mutex_;
  std::condition_variable changed_;
  std::array<bool, 2> open_{true, true};
  std::array<int, 2> under_way_{};
  std::array<Failure, 2> failures_;
  int made_ = 0, prepared_ = 0, unmakable_ = 0;
  bool may_make_ = true;
  std::atomic<std::int64_t> most_rows_{1'000'000}, largest_{0};
};

class GatedBackend final : public backend::test::ForwardingBackend {
 public:
  explicit GatedBackend(Gates& gates) : ForwardingBackend(backend::make_reference_backend()), gates_(gates) {
    stream_mark = this;
    on_linear = [this](const backend::LinearArgs& a) {
      const std::int64_t rows = a.x.view.rows();
      if (rows > gates_.most_rows_) throw Error(Code::out_of_memory, cat(rows, " rows are too many"));
      for (auto most = gates_.largest_.load(); most < rows && !gates_.largest_.compare_exchange_weak(most, rows);) {
      }
    };
    std::unique_lock lock(gates.mutex_);
    ++gates.made_;
    gates.changed_.wait(lock, [&] { return gates.may_make_; });
    if (gates.unmakable_ > 0) {
      --gates.unmakable_;
      throw Error(Code::device_failure, "the device does not open");
    }
  }
  ~GatedBackend() override {
    gates_.set([&] {
      for (const Pass& pass : begun_) --gates_.under_way_[pass.image ? 1 : 0];
    });
  }
  std::unique_ptr<backend::PreparedWeight> prepare_projection(ConstView w) override {
    gates_.set([&] { ++gates_.prepared_; });
    return ForwardingBackend::prepare_projection(w);
  }
  void patch_embed(const backend::PatchEmbedArgs& a) override {
    image_ = true;
    ForwardingBackend::patch_embed(a);
  }
  void embed_tokens(const backend::EmbedTokensArgs& a) override {
    image_ = false;
    ForwardingBackend::embed_tokens(a);
  }
  void download_later(ConstView from, void* landing) override {
    leaving_.push_back({static_cast<std::byte*>(landing), {from.data, from.data + from.bytes()}});
  }
  std::uint64_t mark() override {
    begun_.push_back({++marked_, image_, std::exchange(leaving_, {})});
    gates_.set([&] { ++gates_.under_way_[image_ ? 1 : 0]; });
    return marked_;
  }
  void wait_for(std::uint64_t mark) override {
    const Pass pass = std::move(begun_.front());
    begun_.pop_front();
    if (mark != pass.mark) throw Error(Code::internal, cat("waits for ", mark, ", not for the oldest, ", pass.mark));
    const std::size_t kind = pass.image ? 1 : 0;
    std::optional<Error> failure;
    {
      std::unique_lock lock(gates_.mutex_);
      gates_.changed_.wait(lock, [&] { return gates_.open_[kind]; });
      --gates_.under_way_[kind];
      auto& wanted = gates_.failures_[kind];
      if (wanted.times > 0) --wanted.times, failure = wanted.error;
    }
    gates_.changed_.notify_all();
    if (failure) throw *failure;
    for (const Copy& c : pass.copies) std::memcpy(c.to, c.bytes.data(), c.bytes.size());
  }

 private:
  struct Copy {
    std::byte* to;
    std::vector<std::byte> bytes;
  };
  struct Pass {
    std::uint64_t mark;
    bool image;
    std::vector<Copy> copies;
  };
  Gates& gates_;
  bool image_ = false;
  std::vector<Copy> leaving_;
  std::deque<Pass> begun_;
  std::uint64_t marked_ = 0;
};

}  // namespace tandem::engine::test
