// A request on its way through the engine.
#pragma once

#include <chrono>
#include <compare>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>

#include "engine/preparer.h"
#include "tandem/engine.h"

namespace tandem::engine {

using Clock = std::chrono::steady_clock;

/// One request and what is known of its answer. Its items are finished one by one, each exactly once, by any thread.
class Job {
 public:
  Job(Request request, OnDone on_done);

  const Request& request() const noexcept { return request_; }
  /// When the engine took it in.
  Clock::time_point accepted() const noexcept { return accepted_; }
  std::size_t items() const noexcept { return request_.images.size() + request_.texts.size(); }

  /// Why the request must not be worked on any more: cancelled, or deadline_exceeded.
  std::optional<Code> abandoned(Clock::time_point now) const noexcept;

  void started(Clock::time_point now);
  void computed(double seconds);
  void prepared(double seconds);

  /// Records one item's vector or error. The call that finishes the last item delivers the answer; what the callback
  /// throws is its own affair: others may wait for theirs.
  void finish(bool image, std::size_t index, Embedding embedding) noexcept;
  /// Records that the whole request fails, and counts one item as finished.
  void finish_failed(ItemError error) noexcept;

 private:
  void count_down() noexcept;

  Request request_;
  OnDone on_done_;
  std::mutex mutex_;
  Response response_;
  std::optional<ItemError> failure_;
  std::size_t remaining_;
  Clock::time_point accepted_ = Clock::now();
  bool started_ = false;
};

struct Flight;  // caches.h

/// A place in a fair queue: requests take turns by rounds, and within a round they go as they came.
struct Turn {
  std::uint64_t round = 0, sequence = 0;
  friend auto operator<=>(const Turn&, const Turn&) = default;
};

/// One input of a job, and its prepared form once there is one. Without a job it is nobody's: it was answered, moved,
/// or follows an equal one.
struct Item {
  std::shared_ptr<Job> job;
  bool image = false;
  std::size_t index = 0;
  Prepared prepared;
  double prepare_seconds = 0;
  Turn turn = {};
  bool ready = false;                   ///< prepared
  std::shared_ptr<Flight> flight = {};  ///< where its vector goes besides; null: nowhere
  Priority priority() const noexcept { return job->request().priority; }
  const EmbedOptions& options() const noexcept { return job->request().options; }
};

// Errors for those who wait, made where memory may be short: where their words find none, they are "out of memory".
ItemError to_item_error(const std::exception& error) noexcept;
ItemError copy_of(const ItemError& error) noexcept;
Embedding failed_with(const ItemError& error) noexcept;
/// What abandoned() said, in words.
ItemError error_of_abandoned(Code why) noexcept;

}  // namespace tandem::engine
