// The queues between callers, the threads that prepare, and the threads that compute. Everything is bounded: items by
// max_items, prepared pictures by what keeps the device busy.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "engine/job.h"

namespace tandem::engine {

class Scheduler {
 public:
  /// observer: told of what is prepared; may be null.
  Scheduler(const Preparer& preparer, ThreadPool& pool, std::size_t max_items, std::size_t prepare_ahead,
            Observer* observer = nullptr);
  /// stop() must have returned.
  ~Scheduler() = default;

  /// Takes a request in. Full: waits when `wait`, else throws overloaded. After stop(): throws unavailable.
  void submit(Request request, OnDone on_done, bool wait);

  /// Whoever takes work: of which kinds, and whether no more (see dismiss()).
  struct Taker {
    bool images = true, texts = true;
    bool gone = false;
    /// How long it looks for work before it sleeps: a thread takes tens of microseconds to wake up, which a device that
    /// waits for it meanwhile need not lose.
    std::chrono::microseconds awake{0};
    bool takes(bool image) const noexcept { return image ? images : texts; }
  };

  /// The next items to compute: one kind that the taker takes, equal options, high priority first, the kind whose first
  /// item came earlier. `fitting` says how many of the candidates fit one pass. Waits for work; empty after stop() and
  /// dismiss(). Several threads may take: who is free takes next, and leaves their share to others that wait for this
  /// kind. Without `wait`, empty as well when there is nothing yet, or `fitting` says 0.
  template <class Fitting>
  std::vector<Item> next_batch(const Taker& taker, Fitting fitting, bool wait = true);

  /// The taker gets nothing from now on; where it waits, it returns.
  void dismiss(Taker& taker);

  /// Counts items as answered, which makes room for others. Their jobs have been told already.
  void answered(std::size_t items);

  /// Answers those whose request was withdrawn or whose deadline has passed, for when nobody takes.
  void drop_abandoned();

  /// Answers everything that waits with `error`, refuses what comes, and returns when nothing is being prepared.
  void stop(const ItemError& error);

  std::size_t size() const;

 private:
  struct Ready {
    Item item;
    std::uint64_t order;
  };
  using Queue = std::array<std::deque<Item>, 2>;        // by priority, high first
  using ReadyQueue = std::array<std::deque<Ready>, 2>;  // by priority, high first

  static std::size_t level(const Item& item) { return item.priority() == Priority::high ? 0 : 1; }
  bool has_raw() const { return !raw_[0].empty() || !raw_[1].empty(); }
  bool has_ready(bool image) const {
    const ReadyQueue& queue = image ? images_ : texts_;
    return !queue[0].empty() || !queue[1].empty();
  }
  void push_ready(Item item);
  void start_pumps();
  void pump();
  /// Prepares one item; false if it was answered with an error instead.
  bool prepare(Item& item);
  std::deque<Ready>* oldest_claim(const Taker& taker);
  /// Returns when something came, or after taker.awake; gives the lock away meanwhile.
  void stay_awake(const Taker& taker, std::unique_lock<std::mutex>& lock);
  /// Wakes one thread that waits for work of this kind.
  void notify(bool image);
  std::condition_variable& work_of(const Taker& taker) {
    return work_[(taker.images ? 1U : 0U) + (taker.texts ? 2U : 0U)];
  }

  const Preparer& preparer_;
  ThreadPool& pool_;
  const std::size_t max_items_, prepare_ahead_;
  Observer* const observer_;
  mutable std::mutex mutex_;
  std::condition_variable room_, quiet_;
  std::array<std::condition_variable, 4> work_;  // by what the waiting threads take: images 1, texts 2, both 3
  Queue raw_;
  ReadyQueue images_, texts_;
  std::size_t items_ = 0;                 // accepted, not answered
  std::array<std::size_t, 2> waiting_{};  // threads in next_batch() that wait for texts, for images
  std::size_t prepared_ = 0;              // being prepared, or ready
  int pumps_ = 0;
  std::uint64_t order_ = 0;
  std::atomic<std::uint64_t> changes_{0};  // of what a thread in next_batch() waits for
  bool stopped_ = false;
  ItemError stop_error_;
};

template <class Fitting>
std::vector<Item> Scheduler::next_batch(const Taker& taker, Fitting fitting, bool wait) {
  std::vector<Item> batch;
  std::unique_lock lock(mutex_);
  std::deque<Ready>* queue = oldest_claim(taker);
  if (wait) {
    waiting_[0] += taker.texts ? 1 : 0, waiting_[1] += taker.images ? 1 : 0;
    if (queue == nullptr && !stopped_ && !taker.gone) stay_awake(taker, lock);
    work_of(taker).wait(lock, [&] { return stopped_ || taker.gone || (queue = oldest_claim(taker)) != nullptr; });
    waiting_[0] -= taker.texts ? 1 : 0, waiting_[1] -= taker.images ? 1 : 0;
  }
  if (stopped_ || taker.gone || queue == nullptr) return batch;
  const bool image = queue->front().item.image;
  const EmbedOptions options = queue->front().item.options();
  std::vector<const Item*> candidates;
  for (const Ready& r : *queue) {
    const EmbedOptions& o = r.item.options();
    if (o.feature != options.feature || o.normalize != options.normalize) break;
    candidates.push_back(&r.item);
  }
  const std::size_t waiting = waiting_[image ? 1 : 0];
  const std::size_t share = (candidates.size() + waiting) / (waiting + 1);  // rounded up
  const std::size_t count = fitting(std::span<const Item* const>(candidates).first(share));
  batch.reserve(count);  // may throw, as long as the items are still in the queue
  for (std::size_t i = 0; i < count; ++i) {
    batch.push_back(std::move(queue->front().item));
    queue->pop_front();
  }
  prepared_ -= count;
  start_pumps();
  for (const bool kind : {true, false}) {
    if (waiting_[kind ? 1 : 0] > 0 && has_ready(kind)) notify(kind);
  }
  return batch;
}

}  // namespace tandem::engine
