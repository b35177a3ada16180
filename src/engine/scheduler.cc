#include "engine/scheduler.h"

#include <algorithm>
#include <thread>

#include "base/clock.h"
#include "base/strings.h"

namespace tandem::engine {
namespace {

std::span<Item> one(Item& item) noexcept {
  return {&item, 1};
}

/// Of an item that was settled.
std::span<Claim> followers_of(Item& item) noexcept {
  return item.flight ? std::span<Claim>(item.flight->followers) : std::span<Claim>();
}

}  // namespace

Scheduler::Scheduler(const Preparer& preparer, ThreadPool& pool, const SchedulerLimits& limits,
                     const CacheOptions& caches, Observer* observer)
    : preparer_(preparer), pool_(pool), limits_(limits), caches_(caches), observer_(observer) {}

void Scheduler::submit(Request request, OnDone on_done, bool wait) {
  const std::size_t count = request.images.size() + request.texts.size();
  if (count == 0) {
    on_done(Response{});
    return;
  }
  if (count > limits_.max_items) {
    throw Error(Code::too_large, cat("a request of ", count, " items is larger than the queue of ", limits_.max_items,
                                     ": split it, or raise max_queue"));
  }
  // Before the items are counted: what fails here must not take room for ever, and what comes after may not fail.
  auto job = std::make_shared<Job>(std::move(request), std::move(on_done));
  std::vector<Item> items;
  items.reserve(count);
  for (std::size_t i = 0; i < job->request().images.size(); ++i) items.push_back({job, true, i, {}});
  for (std::size_t i = 0; i < job->request().texts.size(); ++i) items.push_back({job, false, i, {}});
  {
    std::unique_lock lock(mutex_);
    if (wait) room_.wait(lock, [&] { return stopped_ || items_ + count <= limits_.max_items; });
    if (stopped_) throw Error(stop_error_.code, stop_error_.message);
    if (items_ + count > limits_.max_items) {
      throw Error(Code::overloaded, cat("the queue of ", limits_.max_items, " items is full (", items_, " waiting, ",
                                        count, " more asked for): try again later"));
    }
    items_ += count;
  }
  for (Item& item : items) take_in(item);
  if (const auto why = queue(items)) fail(items, *why);
}

void Scheduler::take_in(Item& item) noexcept {
  const Request& request = item.job->request();
  if (!item.image) {
    if (Preparer::is_cheap(request.texts[item.index])) item.ready = prepare(item);
    return;
  }
  const bool cheap = preparer_.is_cheap(request.images[item.index]);
  try {
    if (!admit(item)) return;
  } catch (const std::exception& error) {
    return fail(one(item), to_item_error(error));
  }
  if (cheap) item.ready = prepare(item);
}

std::optional<ItemError> Scheduler::queue(std::span<Item> items) noexcept {
  if (std::none_of(items.begin(), items.end(), [](const Item& item) { return item.job != nullptr; })) return {};
  std::optional<ItemError> why;
  ByKind<bool> any{};
  {
    const std::lock_guard lock(mutex_);
    if (stopped_) return copy_of(stop_error_);
    ByKind<std::size_t> seen{};
    try {
      for (Item& item : items) {
        if (item.job == nullptr) continue;
        const std::size_t k = kind(item.image), l = level(item);
        item.turn = {rounds_[l][k] + 1 + seen[k]++ / kQuantum, sequence_++};
        if (item.ready) {
          push_ready(item);
          ++prepared_;
          any[k] = true;
        } else {
          Item& place = raw_[l][k][item.turn];  // the last that may throw
          place = std::move(item);
          ++coming_[k];
        }
      }
    } catch (const std::exception& error) {
      why = to_item_error(error);
    }
    start_pumps();
    for (const bool image : {true, false}) {
      if (any[kind(image)]) notify(image);
    }
  }
  return why;
}

void Scheduler::push_ready(Item& item) {
  Ready& place = ready_[level(item)][kind(item.image)][item.turn];  // the last that may throw
  place.item = std::move(item), place.since = Clock::now();
  ++changes_;
}

std::size_t Scheduler::raw_items() const {
  std::size_t sum = 0;
  for (const auto& level : raw_) sum += level[0].size() + level[1].size();
  return sum;
}

void Scheduler::stay_awake(const Taker& taker, std::unique_lock<std::mutex>& lock) {
  // Where pictures are being prepared their threads need the processors, and the next work is no surprise.
  if (taker.awake.count() == 0 || pumps_ > 0) return;
  const std::uint64_t seen = changes_;
  lock.unlock();
  const auto until = Clock::now() + taker.awake;
  while (changes_ == seen && Clock::now() < until) std::this_thread::yield();
  lock.lock();
}

void Scheduler::sleep(const Taker& taker, std::unique_lock<std::mutex>& lock, Clock::time_point until) {
  Sleeper self{.taker = taker, .before = asleep_};
  asleep_ = &self;
  const auto told = [&] { return self.told; };
  if (until == Clock::time_point::max()) return self.wake.wait(lock, told);
  if (self.wake.wait_until(lock, until, told)) return;
  Sleeper** at = &asleep_;
  while (*at != &self) at = &(*at)->before;
  *at = self.before;
}

void Scheduler::wake(Sleeper*& found) noexcept {
  Sleeper& sleeper = *found;
  found = sleeper.before;
  sleeper.told = true;
  sleeper.wake.notify_one();  // it goes when the lock is given away
}

void Scheduler::notify(bool image) noexcept {
  for (Sleeper** at = &asleep_; *at != nullptr; at = &(*at)->before) {
    if ((*at)->taker.takes(image)) return wake(*at);
  }
}

void Scheduler::notify_all() noexcept {
  while (asleep_ != nullptr) wake(asleep_);
}

void Scheduler::dismiss(Taker& taker) {
  {
    const std::lock_guard lock(mutex_);
    taker.gone = true;
    ++changes_;
    notify_all();
  }
}

void Scheduler::start_pumps() noexcept {
  const std::size_t raw = raw_items();
  try {
    while (may_prepare() && pumps_ < preparers() && static_cast<std::size_t>(pumps_) < raw &&
           prepared_ + static_cast<std::size_t>(pumps_) < limits_.prepare_ahead) {
      pool_.post([this] { pump(); });  // which waits for the lock that is held here
      ++pumps_;                        // not before: stop() would wait for one that could not be posted
      if (limits_.cores) ++limits_.cores->preparing;
    }
  } catch (const std::bad_alloc&) {
  }
}

int Scheduler::preparers() const {
  constexpr std::size_t kCrowd = 4;  // for each thread
  const bool crowd = raw_items() >= kCrowd * static_cast<std::size_t>(pool_.size());
  return crowd ? pool_.size() : std::min(pool_.size(), limits_.preparing);
}

void Scheduler::pump() noexcept {
  std::unique_lock lock(mutex_);
  while (may_prepare() && pumps_ <= preparers()) {
    RawQueue* queue = nullptr;
    for (auto& level : raw_) {
      for (auto& kind : level) {  // long texts first: they are few, and cheaper than any picture
        if (queue == nullptr && !kind.empty()) queue = &kind;
      }
    }
    if (queue == nullptr) break;
    Item item = std::move(queue->begin()->second);
    queue->erase(queue->begin());
    const bool image = item.image;
    ++prepared_;
    lock.unlock();
    bool good = prepare(item);
    lock.lock();
    --coming_[kind(image)];
    std::optional<ItemError> why;
    try {
      if (good) push_ready(item);
    } catch (const std::exception& error) {
      good = false;
      why = to_item_error(error);
    }
    if (!good) {
      --prepared_;
      ++changes_;  // who waited for it to be ready need not any more
    }
    notify(image);
    if (why) {
      lock.unlock();
      fail(one(item), *why);
      lock.lock();
    }
  }
  if (limits_.cores) --limits_.cores->preparing;
  if (--pumps_ > 0) return;
  quiet_.notify_all();
  if (limits_.take_turns) {  // whoever takes waits for this
    ++changes_;
    notify(true);
  }
}

bool Scheduler::admit(Item& item) {
  auto known = caches_.admit(item);
  if (known) finish(one(item), std::span(&*known, 1));
  return item.job != nullptr;
}

bool Scheduler::prepare(Item& item) noexcept {
  const auto begin = Clock::now();
  {
    Leaving leaving(*this);
    if (!caches_.drop_gone(item, begin, leaving.gone)) return false;
  }
  const std::shared_ptr<Job> job = item.job;
  const Request& request = job->request();
  try {
    if (!item.image) {
      item.prepared = preparer_.prepare(request.texts[item.index]);
      if (!item.flight && !admit(item)) return false;
    } else if (preparer_.is_cheap(request.images[item.index])) {
      item.prepared = preparer_.prepare(request.images[item.index]);
    } else if (!caches_.find_pixels(item)) {
      item.prepared = preparer_.prepare(request.images[item.index]);
      caches_.keep_pixels(item);
    }
    item.prepare_seconds = seconds_since(begin);
    job->prepared(item.prepare_seconds);
    if (observer_ != nullptr) {
      const double fit = item.prepared.fit_seconds;
      observer_->prepared(item.image, item.prepare_seconds - fit, fit);
    }
  } catch (const std::exception& error) {
    fail(one(item), to_item_error(error));
    return false;
  }
  return true;
}

void Scheduler::finish(std::vector<Item>& batch, std::vector<Embedding> answers) noexcept {
  finish(std::span<Item>(batch), answers);
  batch.clear();
}

void Scheduler::finish(std::span<Item> items, std::span<Embedding> answers) noexcept {
  std::size_t count = items.size();
  for (std::size_t i = 0; i < items.size(); ++i) count += caches_.settle(items[i], answers[i]).size();
  answered(count);
  for (std::size_t i = 0; i < items.size(); ++i) {
    Item& item = items[i];
    for (Claim& claim : followers_of(item)) {
      Embedding same;
      try {
        same = answers[i];
      } catch (const std::exception& error) {
        same = failed_with(to_item_error(error));
      }
      same.truncated = claim.truncated;
      claim.job->finish(item.image, claim.index, std::move(same));
    }
  }
  for (std::size_t i = 0; i < items.size(); ++i) {
    items[i].job->finish(items[i].image, items[i].index, std::move(answers[i]));
    items[i] = {};
  }
}

void Scheduler::finish_failed(std::span<Item> items, const ItemError& why) noexcept {
  const Embedding failed = failed_with(why);
  std::size_t count = 0;
  for (Item& item : items) {
    if (item.job != nullptr) count += 1 + caches_.settle(item, failed).size();
  }
  answered(count);
  for (Item& item : items) {
    if (item.job == nullptr) continue;
    for (Claim& claim : followers_of(item)) claim.job->finish(item.image, claim.index, failed_with(why));
    item.job->finish(item.image, item.index, failed_with(why));
    item = {};
  }
}

void Scheduler::fail(std::vector<Item>& batch, const ItemError& why) noexcept {
  fail(std::span<Item>(batch), why);
  batch.clear();
}

void Scheduler::fail(std::span<Item> items, const ItemError& why) noexcept {
  std::vector<Item> again;
  if (!is_the_inputs(why.code)) {
    try {
      again.reserve(items.size());
    } catch (const std::bad_alloc&) {  // then the error is everybody's
    }
    for (Item& item : items) {
      if (item.job == nullptr || again.size() == again.capacity()) continue;
      if (auto was = caches_.pass_on(item)) {
        answered(1);
        was->job->finish(item.image, was->index, failed_with(why));
        item.prepared = {}, item.ready = false;
        again.push_back(std::move(item));
      }
    }
  }
  if (const auto why_not = queue(again)) finish_failed(again, *why_not);
  finish_failed(items, why);
}

void Scheduler::drop_abandoned(std::vector<Item>& batch) noexcept {
  Leaving leaving(*this);
  const auto now = Clock::now();
  std::erase_if(batch, [&](Item& item) { return !caches_.drop_gone(item, now, leaving.gone); });
}

Scheduler::Leaving::~Leaving() {
  if (gone.empty()) return;
  from.answered(gone.size());
  for (auto& [claim, why] : gone) claim.job->finish_failed(error_of_abandoned(why));
}

void Scheduler::answered(std::size_t items) noexcept {
  {
    const std::lock_guard lock(mutex_);
    items_ -= items;
  }
  room_.notify_all();
}

void Scheduler::collect_gone(Clock::time_point now, Gone& gone) noexcept {
  const auto clean = [&](auto& queue, auto item_of) {
    const std::size_t before = queue.size();
    for (auto at = queue.begin(); at != queue.end();) {
      at = caches_.drop_gone(item_of(at->second), now, gone) ? std::next(at) : queue.erase(at);
    }
    return before - queue.size();
  };
  for (std::size_t level = 0; level < 2; ++level) {
    for (std::size_t k = 0; k < 2; ++k) {
      prepared_ -= clean(ready_[level][k], [](Ready& r) -> Item& { return r.item; });
      coming_[k] -= clean(raw_[level][k], [](Item& item) -> Item& { return item; });
    }
  }
  swept_ = now;
}

void Scheduler::drop_abandoned() noexcept {
  Leaving leaving(*this);
  const std::lock_guard lock(mutex_);
  collect_gone(Clock::now(), leaving.gone);
  start_pumps();
}

void Scheduler::stop(const ItemError& error) noexcept {
  ByLevel<RawQueue> raw;
  ByLevel<ReadyQueue> ready;
  {
    std::unique_lock lock(mutex_);
    if (!stopped_) stop_error_ = copy_of(error);
    stopped_ = true;
    ++changes_;
    notify_all();
    room_.notify_all();
    quiet_.wait(lock, [this] { return pumps_ == 0; });
    raw.swap(raw_), ready.swap(ready_);
    coming_ = {};
    prepared_ = 0;
  }
  const Embedding none = failed_with(error);
  const auto end = [&](Item& item) {
    const std::span<Claim> followers = caches_.settle(item, none);
    answered(1 + followers.size());
    for (Claim& claim : followers) claim.job->finish_failed(copy_of(error));
    item.job->finish_failed(copy_of(error));
  };
  for (std::size_t level = 0; level < 2; ++level) {
    for (std::size_t k = 0; k < 2; ++k) {
      for (auto& [turn, item] : raw[level][k]) end(item);
      for (auto& [turn, waiting] : ready[level][k]) end(waiting.item);
    }
  }
}

bool Scheduler::is_preparing() const {
  const std::lock_guard lock(mutex_);
  return pumps_ > 0;
}

std::size_t Scheduler::size() const {
  const std::lock_guard lock(mutex_);
  return items_;
}

}  // namespace tandem::engine
