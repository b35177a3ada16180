// The queues between callers, the threads that prepare, and the thread that computes. Everything is bounded: items by
// max_items, prepared pictures by what keeps the device busy.
#pragma once

#include <array>
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
  Scheduler(const Preparer& preparer, ThreadPool& pool, std::size_t max_items, std::size_t prepare_ahead);
  /// stop() must have returned.
  ~Scheduler() = default;

  /// Takes a request in. Full: waits when `wait`, else throws overloaded. After stop(): throws unavailable.
  void submit(Request request, OnDone on_done, bool wait);

  /// The next items to compute: one kind, equal options, high priority first, the kind whose first item came earlier.
  /// `fitting` says how many of the candidates fit one pass. Waits for work; empty after stop(). Several threads may
  /// take: who is free takes next, and leaves their share to others that wait. Without `wait`, empty as well when there
  /// is nothing yet, or `fitting` says 0.
  template <class Fitting>
  std::vector<Item> next_batch(Fitting fitting, bool wait = true);

  /// Counts items as answered, which makes room for others. Their jobs have been told already.
  void answered(std::size_t items);

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
  void push_ready(Item item);
  void start_pumps();
  void pump();
  /// Prepares one item; false if it was answered with an error instead.
  bool prepare(Item& item);
  std::deque<Ready>* oldest_claim();

  const Preparer& preparer_;
  ThreadPool& pool_;
  const std::size_t max_items_, prepare_ahead_;
  mutable std::mutex mutex_;
  std::condition_variable room_, work_, quiet_;
  Queue raw_;
  ReadyQueue images_, texts_;
  std::size_t items_ = 0;     // accepted, not answered
  std::size_t waiting_ = 0;   // threads in next_batch() without work
  std::size_t prepared_ = 0;  // being prepared, or ready
  int pumps_ = 0;
  std::uint64_t order_ = 0;
  bool stopped_ = false;
  ItemError stop_error_;
};

template <class Fitting>
std::vector<Item> Scheduler::next_batch(Fitting fitting, bool wait) {
  std::vector<Item> batch;
  std::unique_lock lock(mutex_);
  std::deque<Ready>* queue = oldest_claim();
  if (wait) {
    ++waiting_;
    work_.wait(lock, [&] { return stopped_ || (queue = oldest_claim()) != nullptr; });
    --waiting_;
  }
  if (stopped_ || queue == nullptr) return batch;
  const EmbedOptions options = queue->front().item.options();
  std::vector<const Item*> candidates;
  for (const Ready& r : *queue) {
    const EmbedOptions& o = r.item.options();
    if (o.feature != options.feature || o.normalize != options.normalize) break;
    candidates.push_back(&r.item);
  }
  const std::size_t share = (candidates.size() + waiting_) / (waiting_ + 1);  // rounded up
  const std::size_t count = fitting(std::span<const Item* const>(candidates).first(share));
  for (std::size_t i = 0; i < count; ++i) {
    batch.push_back(std::move(queue->front().item));
    queue->pop_front();
  }
  prepared_ -= count;
  start_pumps();
  if (waiting_ > 0 && oldest_claim() != nullptr) work_.notify_one();
  return batch;
}

}  // namespace tandem::engine
