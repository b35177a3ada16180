// The half of the Scheduler that makes batches.
#include <algorithm>
#include <cstdlib>
#include <utility>

#include "engine/scheduler.h"

namespace tandem::engine {
namespace {

/// How often whoever takes work looks through everything that waits for those who have gone.
constexpr std::chrono::milliseconds kSweep{50};

}  // namespace

std::vector<Item> Scheduler::next_batch(const Taker& taker, const Fitting& fitting, bool wait) {
  std::vector<Item> batch;
  for (bool over = false; !over && batch.empty();) {
    Leaving leaving(*this);
    Gone& gone = leaving.gone;
    {
      std::unique_lock lock(mutex_);
      if (std::exchange(computing_, false)) start_pumps();
      if (const auto now = Clock::now(); now - swept_ > kSweep) collect_gone(now, gone);
      ReadyQueue* queue = claim(taker);
      if (wait && gone.empty()) {
        waiting_[0] += taker.texts ? 1 : 0, waiting_[1] += taker.images ? 1 : 0;
        if (queue == nullptr && !stopped_ && !taker.gone) stay_awake(taker, lock);
        while (!stopped_ && !taker.gone && (queue = claim(taker)) == nullptr) sleep(taker, lock);
        waiting_[0] -= taker.texts ? 1 : 0, waiting_[1] -= taker.images ? 1 : 0;
      }
      if (stopped_ || taker.gone) {
        over = true;
      } else if (queue == nullptr) {
        over = !wait;
      } else {
        Clock::time_point hold;
        batch = take(taker, *queue, fitting, wait, gone, hold);
        over = !wait;
        if (batch.empty() && gone.empty() && hold > Clock::now()) {
          const std::uint64_t seen = changes_;
          while (!stopped_ && !taker.gone && changes_ == seen && Clock::now() < hold) sleep(taker, lock, hold);
        }
      }
      if (!gone.empty() || !batch.empty()) start_pumps();
      for (const bool image : {true, false}) {
        if (waiting_[kind(image)] > 0 && has_ready(image)) notify(image);
      }
    }
  }
  return batch;
}

Scheduler::ReadyQueue* Scheduler::claim(const Taker& taker) {
  for (auto& level : ready_) {
    ReadyQueue* const texts = taker.texts && !level[0].empty() ? &level[0] : nullptr;
    ReadyQueue* const images = taker.images && !level[1].empty() ? &level[1] : nullptr;
    if (images == nullptr && texts == nullptr) continue;
    if (images == nullptr || texts == nullptr) return images == nullptr ? texts : images;
    return images_last_ ? texts : images;
  }
  return nullptr;
}

std::vector<Item> Scheduler::take(const Taker& taker, ReadyQueue& queue, const Fitting& fitting, bool wait, Gone& gone,
                                  Clock::time_point& hold) {
  const auto now = Clock::now();
  std::vector<ReadyQueue::iterator> found;
  Clock::time_point oldest = now;
  // Texts to choose from, and a share for each other thread that waits.
  const std::size_t k = &queue == &ready_[0][1] || &queue == &ready_[1][1] ? 1 : 0;
  const std::size_t most = taker.full[k] * (waiting_[k] + 1) * 4;
  for (auto at = queue.begin(); at != queue.end() && found.size() < most;) {
    const auto here = at++;
    Item& item = here->second.item;
    if (!found.empty()) {
      const EmbedOptions &a = found.front()->second.item.options(), &b = item.options();
      if (a.feature != b.feature || a.normalize != b.normalize) break;
    }
    if (!caches_.drop_gone(item, now, gone)) {
      queue.erase(here);
      --prepared_;
      continue;
    }
    oldest = std::min(oldest, here->second.since);
    found.push_back(here);
  }
  if (found.empty()) return {};
  const bool image = k == 1;
  const std::size_t waiting = waiting_[k];
  const std::size_t share = (found.size() + waiting) / (waiting + 1);  // rounded up
  std::vector<const Item*> candidates;
  const auto count_fitting = [&] {
    candidates.clear();
    for (std::size_t i = 0; i < share; ++i) candidates.push_back(&found[i]->second.item);
    return fitting(candidates);
  };
  std::size_t count = count_fitting();
  if (count == 0) return {};
  if (!image && count < found.size()) {
    // The first one's time has come; those that are as long as it make a pass whose sequences end together.
    const auto length = [](const ReadyQueue::iterator& at) {
      return static_cast<std::ptrdiff_t>(at->second.item.prepared.ids.size());
    };
    const std::ptrdiff_t wanted = length(found.front());
    std::stable_sort(found.begin() + 1, found.end(), [&](const auto& a, const auto& b) {
      return std::abs(length(a) - wanted) < std::abs(length(b) - wanted);
    });
    count = std::max<std::size_t>(count_fitting(), 1);
  }
  if (wait && count == found.size() && count < taker.full[k]) {
    preparing_ = pumps_ > 0 && (preparing_ || is_crowd());
    hold = image && limits_.take_turns && preparing_ && level(found.front()->second.item) > 0
               ? now + kSweep
               : held_until(taker, image, count, oldest);
    if (hold > now) return {};
  }
  std::vector<Item> batch;
  batch.reserve(count);  // may throw, as long as the items are still in the queue
  std::uint64_t& round = rounds_[level(found.front()->second.item)][k];
  for (std::size_t i = 0; i < count; ++i) {
    round = std::max(round, found[i]->first.round);
    batch.push_back(std::move(found[i]->second.item));
    queue.erase(found[i]);
  }
  prepared_ -= count;
  images_last_ = image;
  computing_ = limits_.take_turns;
  preparing_ = false;
  return batch;
}

Clock::time_point Scheduler::held_until(const Taker& taker, bool image, std::size_t items,
                                        Clock::time_point oldest) const {
  if (limits_.max_delay.count() == 0) return {};
  // Where passes divide a processor's threads, a picture with a thread of its own costs little more than one of many:
  // waiting is worth it for a crowd only. A text is short, and reading the weights for several at once always is.
  if (image && limits_.cores != nullptr && !is_crowd()) return {};
  const std::size_t k = kind(image);
  // Those who were answered together come back together: a client that waits for its answer asks again at once.
  const bool more =
      coming_[k] > 0 || (taker.last_items[k] > items && Clock::now() < taker.last_end + limits_.max_delay);
  if (!more) return {};
  Clock::duration delay = limits_.max_delay;
  if (taker.last_took[k].count() > 0) delay = std::min(delay, taker.last_took[k] / 4);
  return oldest + delay;
}

}  // namespace tandem::engine
