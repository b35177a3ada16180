#include "engine/serving.h"

#include <algorithm>
#include <deque>
#include <exception>
#include <iterator>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "base/strings.h"
#include "engine/rehearsal.h"

namespace tandem::engine {
namespace {

using Batch = std::vector<Item>;

/// A caller that has its answer and asks at once again is back within this.
constexpr std::chrono::microseconds kAwake{80};
/// Before a list for a batch is asked for again, where there was no memory for one.
constexpr std::chrono::milliseconds kMemoryPause{10};

class LaneServer {
 public:
  LaneServer(Lane& lane, const Replica& replica, Scheduler::Taker& taker, Scheduler& scheduler, const Logger& logger,
             Observer* observer, const OnLost& on_lost)
      : lane_(lane),
        replica_(replica),
        taker_(taker),
        scheduler_(scheduler),
        logger_(logger),
        observer_(observer),
        on_lost_(on_lost) {}

  std::optional<ItemError> run() {
    for (bool more = true; more && !lost_;) {
      try {
        more = step();
      } catch (const std::bad_alloc&) {  // no list for a batch: what waits has kept its place
        std::this_thread::sleep_for(kMemoryPause);
      } catch (const std::exception& error) {  // nobody may wait for ever
        lose(to_item_error(error));
      }
    }
    for (auto* left : {&begun_, &again_}) {
      for (Batch& batch : *left) scheduler_.fail(batch, *lost_);
      left->clear();
    }
    return lost_;
  }

 private:
  /// Nobody may hear of a failed pass before the replica counts as lost: a server would call its model sick.
  void lose(ItemError why) noexcept {
    try {
      on_lost_(why);
    } catch (const std::exception&) {  // no memory to say it
    }
    lost_ = std::move(why);
  }

  /// Begins a batch or finishes one. False: there is no more work.
  bool step() {
    Batch batch;
    if (!again_.empty()) {
      if (lane_.can_begin()) {
        batch = std::move(again_.front());
        again_.pop_front();
      }
    } else if (begun_.empty()) {
      batch = scheduler_.next_batch(taker_, [&](auto items) { return planned(items); });
      if (batch.empty()) return false;
    } else if (lane_.can_begin()) {
      // Where the device works beside the host it has its next batch before it has finished one, but only one that is
      // full: a smaller one may still grow.
      batch = scheduler_.next_batch(
          taker_, [&](auto items) { return lane_.filling(items); }, false);
    }
    if (batch.empty()) {
      finish();
    } else {
      begin(std::move(batch));
    }
    return true;
  }

  /// Whether texts are about as long as those that were measured: others' passes take another time.
  static bool are_usual(std::span<const Item* const> texts) {
    std::size_t tokens = 0;
    for (const Item* text : texts) tokens += text->prepared.ids.size();
    const std::size_t usual = texts.size() * Rehearsal::kUsualTokens;
    return tokens >= usual / 2 && tokens <= 2 * usual;
  }

  /// How many of the items the next pass should have.
  std::size_t planned(std::span<const Item* const> items) const {
    const std::size_t fitting = lane_.fitting(items);
    const bool image = items.front()->image;
    if (!image && !are_usual(items.first(fitting))) return fitting;
    // Seen from what waits, not only from what fits: 40 may be best as 20 and 20.
    const bool full = fitting < items.size() && fitting == taker_.full[image ? 1 : 0];
    return std::min(fitting, replica_.batch_plan(image).next(full ? items.size() : fitting));
  }

  /// Begins a batch, or answers it.
  void begin(Batch batch) {
    scheduler_.drop_abandoned(batch);
    if (batch.empty()) return;
    const bool image = batch.front().image;
    const auto now = Clock::now();
    const bool idle = begun_.empty();
    try {
      begun_.emplace_back();  // before it is begun: who has begun must finish
    } catch (const std::bad_alloc& error) {
      return recover(std::move(batch), to_item_error(error));
    }
    try {
      if (!(image ? lane_.model().vision.has_value() : lane_.model().text.has_value())) {
        throw Error(Code::unsupported, cat("the ", image ? "vision" : "text", " tower was not loaded"));
      }
      if (idle) began_ = Clock::now();
      lane_.begin(batch);
    } catch (const std::exception& error) {
      begun_.pop_back();
      return recover(std::move(batch), to_item_error(error));
    }
    begun_.back() = std::move(batch);
    if (observer_ == nullptr) return;
    for (const Item& item : begun_.back()) {
      const double since = std::chrono::duration<double>(now - item.job->accepted()).count();
      observer_->waited(image, std::max(0.0, since - item.prepare_seconds));
    }
  }

  /// Finishes the oldest batch begun and answers it.
  void finish() {
    Batch batch = std::move(begun_.front());
    begun_.pop_front();
    std::vector<Embedding> answers;
    try {
      answers = lane_.finish(batch, scheduler_.is_preparing());
    } catch (const std::exception& error) {
      return recover(std::move(batch), to_item_error(error));
    }
    if (observer_ != nullptr) {
      observer_->computed(batch.front().image, batch.size(), lane_.copy_seconds(), lane_.compute_seconds());
    }
    const std::size_t kind = batch.front().image ? 1 : 0;
    const auto now = Clock::now();
    taker_.last_items[kind] = batch.size();
    taker_.last_took[kind] = now - std::max(began_, taker_.last_end);
    taker_.last_end = now;
    scheduler_.finish(batch, std::move(answers));
  }

  /// After a pass that failed: halves it where memory was short, else answers its items with the reason.
  void recover(Batch batch, const ItemError& why) noexcept {
    try {
      if (why.code == Code::out_of_memory && batch.size() > 1) return halve(batch, why);
      logger_.log(LogLevel::error, cat("a batch of ", batch.size(), " failed: ", why.message));
    } catch (const std::exception&) {  // no memory: those that were not put aside have their answer now
    }
    if (why.code == Code::device_failure) lose(copy_of(why));
    scheduler_.fail(batch, why);
  }

  /// Puts the batch aside in parts that need less memory, or throws bad_alloc and leaves in it what was not put aside.
  void halve(Batch& batch, const ItemError& why) {
    const std::size_t most = lane_.shrink(batch.front().image, batch.size());
    logger_.log(LogLevel::warning,
                cat("a pass of ", batch.size(), " ran out of memory, passes of ", most, " are tried: ", why.message));
    while (!batch.empty()) {  // from the end, so that the first part is the first again
      const std::size_t count = (batch.size() - 1) % most + 1;
      Batch part;
      part.reserve(count);
      again_.emplace_front();
      const auto first = batch.end() - static_cast<std::ptrdiff_t>(count);
      std::move(first, batch.end(), std::back_inserter(part));
      again_.front() = std::move(part);
      batch.erase(first, batch.end());
    }
  }

  Lane& lane_;
  const Replica& replica_;
  Scheduler::Taker& taker_;
  Scheduler& scheduler_;
  const Logger& logger_;
  Observer* const observer_;
  const OnLost& on_lost_;
  Clock::time_point began_;  ///< the device was idle before
  std::deque<Batch> begun_;  ///< the oldest first
  std::deque<Batch> again_;  ///< parts of passes that ran out of memory
  std::optional<ItemError> lost_;
};

}  // namespace

std::optional<ItemError> serve(Replica& replica, Scheduler& scheduler, const Logger& logger, Observer* observer,
                               const OnLost& on_lost) {
  std::mutex mutex;
  std::optional<ItemError> lost;  // the first
  std::vector<Scheduler::Taker> takers(replica.lanes());
  for (std::size_t i = 0; i < takers.size(); ++i) {
    takers[i].images = replica.takes_images(i), takers[i].texts = replica.takes_texts(i);
    takers[i].full = {replica.most_texts(), replica.most_images()};
    // A processor computes on the threads that would have to stay awake.
    if (replica.lane(i).backend().stream() != nullptr) takers[i].awake = kAwake;
  }
  const auto leave = [&](const ItemError& why) {
    {
      const std::lock_guard lock(mutex);
      if (!lost) lost = why;
    }
    for (auto& taker : takers) scheduler.dismiss(taker);
  };
  const auto work = [&](std::size_t i) {
    LaneServer server(replica.lane(i), replica, takers[i], scheduler, logger, observer, on_lost);
    if (const auto why = server.run()) leave(*why);
  };
  std::vector<std::thread> others;
  try {
    others.reserve(takers.size());  // a thread that runs already must find its place
    for (std::size_t i = 1; i < takers.size(); ++i) {
      others.push_back(start_thread("the thread of a replica's text tower", [&work, i] {
        name_thread("compute-text");
        work(i);
      }));
    }
    work(0);
  } catch (const std::exception& error) {
    leave(to_item_error(error));
  }
  for (auto& thread : others) thread.join();
  return lost;
}

}  // namespace tandem::engine
