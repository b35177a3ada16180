// The queues between callers, the threads that prepare, and the threads that compute. Everything is bounded: items by
// max_items, prepared pictures by what keeps the device busy. Requests take turns, a few items each.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "backend/shared_cores.h"
#include "base/thread_pool.h"
#include "engine/caches.h"
#include "engine/job.h"

namespace tandem::engine {

struct SchedulerLimits {
  std::size_t max_items = 4096;            ///< accepted and not answered
  std::size_t prepare_ahead = 64;          ///< prepared, and not yet taken
  std::chrono::microseconds max_delay{0};  ///< as EngineOptions::max_delay
  /// One thread takes, and what it starts computes on the cores that prepare: where many pictures wait, they are
  /// prepared while no batch is computed, and a batch of them is taken when none is being prepared. Threads that share
  /// an operation wait for the slowest of them, so one core that is lent to a decoder holds up all.
  bool take_turns = false;
  /// Threads of the pool that prepare at a time, at most all of them. Where a crowd waits all do: it asks for the most
  /// pictures a second, not for the first soon.
  int preparing = 1 << 20;
  std::shared_ptr<backend::SharedCores> cores = {};  ///< told how many threads prepare; null: nobody asks
};

class Scheduler {
 public:
  /// observer: told of what is prepared; may be null.
  Scheduler(const Preparer& preparer, ThreadPool& pool, const SchedulerLimits& limits, const CacheOptions& caches,
            Observer* observer = nullptr);
  /// stop() must have returned.
  ~Scheduler() = default;

  /// Takes a request in. Full: waits when `wait`, else throws overloaded. After stop(): throws unavailable. What is
  /// thrown is thrown before an item is taken; each that was taken is answered, also where memory ends.
  void submit(Request request, OnDone on_done, bool wait);

  /// Whoever takes work: of which kinds, and whether no more (see dismiss()).
  struct Taker {
    bool images = true, texts = true;
    bool gone = false;
    /// How long it looks for work before it sleeps: a thread takes tens of microseconds to wake up, which a device that
    /// waits for it meanwhile need not lose.
    std::chrono::microseconds awake{0};
    std::array<std::size_t, 2> full{1, 1};  ///< items of a full pass, by kind, texts first
    // Of its last passes, for guessing whether more will come; by kind.
    std::array<std::size_t, 2> last_items{};
    std::array<Clock::duration, 2> last_took{};
    Clock::time_point last_end;
    bool takes(bool image) const noexcept { return image ? images : texts; }
  };

  /// How many of the candidates are to be one pass, counted from the front.
  using Fitting = std::function<std::size_t(std::span<const Item* const>)>;

  /// The next items to compute: one kind that the taker takes, equal options, high priority first; where both kinds
  /// wait, they take turns. Within a kind requests take turns, kQuantum items each, so that a small request does not
  /// wait for a large one that came before it. Of more texts than fit, those as long as the first. Waits for work, and
  /// as max_delay says for more of it; empty after stop() and dismiss(). Several threads may take: who is free takes
  /// next, and leaves their share to others that wait for this kind. Without `wait`, empty as well when there is
  /// nothing yet, or `fitting` says 0. Who has gone is answered on the way.
  std::vector<Item> next_batch(const Taker& taker, const Fitting& fitting, bool wait = true);

  /// The taker gets nothing from now on; where it waits, it returns.
  void dismiss(Taker& taker);

  /// Answers a batch that was taken, and whoever waits for the same. As many answers as items.
  void finish(std::vector<Item>& batch, std::vector<Embedding> answers) noexcept;
  /// The same for a batch that failed; where that was not an input's fault, others that want it try once more.
  /// Items without a job are passed over: they are somebody else's by now.
  void fail(std::vector<Item>& batch, const ItemError& why) noexcept;
  /// Takes out of a batch whom nobody waits for any more, and answers them.
  void drop_abandoned(std::vector<Item>& batch) noexcept;

  /// Answers those whose request was withdrawn or whose deadline has passed, for when nobody takes.
  void drop_abandoned() noexcept;

  /// Answers everything that waits with `error`, refuses what comes, and returns when nothing is being prepared.
  void stop(const ItemError& error) noexcept;

  std::size_t size() const;
  /// Whether the pool's threads are at work on what is to be computed.
  bool is_preparing() const;
  Caches& caches() noexcept { return caches_; }

  /// Items of a request in one of its turns.
  static constexpr std::size_t kQuantum = 8;

 private:
  struct Ready {
    Item item = {};
    Clock::time_point since = {};
  };
  /// Those who have gone, told when this goes, whichever way: without the lock.
  struct Leaving {
    explicit Leaving(Scheduler& scheduler) : from(scheduler) {}
    ~Leaving();
    Leaving(const Leaving&) = delete;
    Leaving& operator=(const Leaving&) = delete;
    Scheduler& from;
    Gone gone;
  };
  template <class T>
  using ByKind = std::array<T, 2>;  // texts, images
  template <class T>
  using ByLevel = std::array<ByKind<T>, 2>;  // by priority, high first
  using RawQueue = std::map<Turn, Item>;
  using ReadyQueue = std::map<Turn, Ready>;

  static std::size_t level(const Item& item) { return item.priority() == Priority::high ? 0 : 1; }
  static std::size_t kind(bool image) { return image ? 1 : 0; }
  std::size_t raw_items() const;
  bool has_ready(bool image) const { return !ready_[0][kind(image)].empty() || !ready_[1][kind(image)].empty(); }
  /// Answers one of a request's items or makes it ready to be queued; it then has its job.
  void take_in(Item& item) noexcept;
  /// Into the queues, with places in turn; wakes who works on them. Where that ends before all have their place, the
  /// others still have their jobs, and the reason is returned: stop(), or no memory.
  std::optional<ItemError> queue(std::span<Item> items) noexcept;
  /// Takes the item, or throws and leaves it.
  void push_ready(Item& item);
  /// Where there is no memory to start one, whoever comes next does, or drop_abandoned().
  void start_pumps() noexcept;
  bool may_prepare() const { return !stopped_ && !(computing_ && is_crowd()) && prepared_ < limits_.prepare_ahead; }
  /// So many pictures wait that all threads that prepare are busy for a while. Fewer are prepared at any time: a core
  /// would be idle if the others' turn had to end first.
  bool is_crowd() const { return coming_[1] >= 2 * static_cast<std::size_t>(pool_.size()); }
  void pump() noexcept;
  /// Threads that may prepare now.
  int preparers() const;
  /// Prepares one item; false if it was answered with an error instead, or waits for an equal one.
  bool prepare(Item& item) noexcept;
  /// The vector of an item that is known already is its answer; false: it was answered or follows an equal one. What is
  /// thrown leaves the item as it was.
  bool admit(Item& item);
  void finish(std::span<Item> items, std::span<Embedding> answers) noexcept;
  /// One error for all, and for those who follow them.
  void finish_failed(std::span<Item> items, const ItemError& why) noexcept;
  void fail(std::span<Item> items, const ItemError& why) noexcept;
  /// The queue to take from: the level, and its kind whose turn it is.
  ReadyQueue* claim(const Taker& taker);
  std::vector<Item> take(const Taker& taker, ReadyQueue& queue, const Fitting& fitting, bool wait, Gone& gone,
                         Clock::time_point& hold);
  /// Until when it is worth to wait for more items than these; the past: not at all.
  Clock::time_point held_until(const Taker& taker, bool image, std::size_t items, Clock::time_point oldest) const;
  /// Everybody in the queues who has gone.
  void collect_gone(Clock::time_point now, Gone& gone) noexcept;
  /// Counts items as answered, which makes room for others. Their jobs are told afterwards: who has an answer may come
  /// back at once.
  void answered(std::size_t items) noexcept;
  /// Returns when something came, or after taker.awake; gives the lock away meanwhile.
  void stay_awake(const Taker& taker, std::unique_lock<std::mutex>& lock);
  /// A thread that sleeps in next_batch().
  struct Sleeper {
    const Taker& taker;
    Sleeper* before;  // who fell asleep before it
    std::condition_variable wake = {};
    bool told = false;  // to wake up: it is not among those asleep any more
  };
  /// Until told to wake up, or until then.
  void sleep(const Taker& taker, std::unique_lock<std::mutex>& lock,
             Clock::time_point until = Clock::time_point::max());
  /// Wakes a thread that waits for work of this kind, with the lock held: whoever fell asleep last, whose caches are
  /// warm.
  void notify(bool image) noexcept;
  void notify_all() noexcept;
  static void wake(Sleeper*& found) noexcept;

  const Preparer& preparer_;
  ThreadPool& pool_;
  const SchedulerLimits limits_;
  Caches caches_;
  Observer* const observer_;
  mutable std::mutex mutex_;
  std::condition_variable room_, quiet_;
  Sleeper* asleep_ = nullptr;  // who fell asleep last
  ByLevel<RawQueue> raw_;
  ByLevel<ReadyQueue> ready_;
  ByLevel<std::uint64_t> rounds_{};  // the latest round that was taken from
  ByKind<std::size_t> coming_{};     // accepted, and not ready yet
  ByKind<std::size_t> waiting_{};    // threads in next_batch() that wait
  std::size_t items_ = 0;            // accepted, not answered
  std::size_t prepared_ = 0;         // being prepared, or ready
  int pumps_ = 0;
  bool preparing_ = false;    // where both take turns: a crowd came, and not all of it is ready
  bool computing_ = false;    // where both take turns: a batch was taken, and the next was not asked for yet
  bool images_last_ = false;  // the kind that was taken last
  std::uint64_t sequence_ = 0;
  std::atomic<std::uint64_t> changes_{0};  // of what a thread in next_batch() waits for
  Clock::time_point swept_;
  bool stopped_ = false;
  ItemError stop_error_;
};

}  // namespace tandem::engine
