#include "engine/scheduler.h"

#include <algorithm>
#include <thread>

#include "base/clock.h"
#include "base/strings.h"

namespace tandem::engine {

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
  // Before the items are counted: what fails here must not take room for ever.
  auto job = std::make_shared<Job>(std::move(request), std::move(on_done));
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
  std::vector<Item> ready, raw;
  const Request& r = job->request();
  for (std::size_t i = 0; i < r.images.size(); ++i) {
    Item item{job, true, i, {}};
    if (!admit(item)) continue;
    if (!preparer_.is_cheap(r.images[i])) {
      raw.push_back(std::move(item));
    } else if (prepare(item)) {
      ready.push_back(std::move(item));
    }
  }
  for (std::size_t i = 0; i < r.texts.size(); ++i) {
    Item item{job, false, i, {}};
    if (!Preparer::is_cheap(r.texts[i])) {
      raw.push_back(std::move(item));
    } else if (prepare(item)) {
      ready.push_back(std::move(item));
    }
  }
  if (ready.empty() && raw.empty()) return;
  if (!queue(ready, raw)) {
    fail(ready, stop_error_);
    fail(raw, stop_error_);
  }
}

bool Scheduler::queue(std::vector<Item>& ready, std::vector<Item>& raw) {
  ByKind<bool> any{};
  {
    const std::lock_guard lock(mutex_);
    if (stopped_) return false;
    ByKind<std::size_t> seen{};
    const auto place = [&](Item& item) {
      const std::size_t round = seen[kind(item.image)]++ / kQuantum;
      item.turn = {rounds_[level(item)][kind(item.image)] + 1 + round, sequence_++};
    };
    for (Item& item : ready) {
      place(item);
      any[kind(item.image)] = true;
      ++prepared_;
      push_ready(std::move(item));
    }
    for (Item& item : raw) {
      place(item);
      ++coming_[kind(item.image)];
      raw_[level(item)][kind(item.image)].emplace(item.turn, std::move(item));
    }
    start_pumps();
  }
  for (const bool image : {true, false}) {
    if (any[kind(image)]) notify(image);
  }
  return true;
}

void Scheduler::push_ready(Item item) {
  auto& queue = ready_[level(item)][kind(item.image)];
  const Turn turn = item.turn;
  queue.emplace(turn, Ready{std::move(item), Clock::now()});
  ++changes_;
}

std::size_t Scheduler::raw_items() const {
  std::size_t sum = 0;
  for (const auto& level : raw_) sum += level[0].size() + level[1].size();
  return sum;
}

void Scheduler::stay_awake(const Taker& taker, std::unique_lock<std::mutex>& lock) {
  if (taker.awake.count() == 0) return;
  const std::uint64_t seen = changes_;
  lock.unlock();
  const auto until = Clock::now() + taker.awake;
  while (changes_ == seen && Clock::now() < until) std::this_thread::yield();
  lock.lock();
}

void Scheduler::notify(bool image) {
  work_[image ? 1 : 2].notify_one();
  work_[3].notify_one();
}

void Scheduler::dismiss(Taker& taker) {
  {
    const std::lock_guard lock(mutex_);
    taker.gone = true;
    ++changes_;
  }
  work_of(taker).notify_all();
}

void Scheduler::start_pumps() {
  const std::size_t raw = raw_items();
  while (may_prepare() && pumps_ < pool_.size() && static_cast<std::size_t>(pumps_) < raw &&
         prepared_ + static_cast<std::size_t>(pumps_) < limits_.prepare_ahead) {
    pool_.post([this] { pump(); });  // which waits for the lock that is held here
    ++pumps_;                        // not before: stop() would wait for one that could not be posted
  }
}

void Scheduler::pump() {
  std::unique_lock lock(mutex_);
  while (may_prepare()) {
    RawQueue* queue = nullptr;
    for (auto& level : raw_) {
      for (auto& one : level) {  // long texts first: they are few, and cheaper than any picture
        if (queue == nullptr && !one.empty()) queue = &one;
      }
    }
    if (queue == nullptr) break;
    Item item = std::move(queue->begin()->second);
    queue->erase(queue->begin());
    const bool image = item.image;
    ++prepared_;
    lock.unlock();
    const bool good = prepare(item);
    lock.lock();
    --coming_[kind(image)];
    if (good) {
      push_ready(std::move(item));
    } else {
      --prepared_;
      ++changes_;  // who waited for it to be ready need not any more
    }
    notify(image);
  }
  if (--pumps_ > 0) return;
  quiet_.notify_all();
  if (limits_.take_turns) {  // whoever takes waits for this
    ++changes_;
    notify(true);
  }
}

bool Scheduler::admit(Item& item) {
  std::vector<Item> own(1);
  auto known = caches_.admit(item);
  if (known) {
    own[0] = std::move(item);
    std::vector<Embedding> answers;
    answers.push_back(std::move(*known));
    finish(own, std::move(answers));
    return false;
  }
  return item.job != nullptr;
}

bool Scheduler::prepare(Item& item) {
  const auto begin = Clock::now();
  Gone gone;
  if (!caches_.drop_gone(item, begin, gone)) {
    answered(gone.size());
    tell(gone);
    return false;
  }
  if (!gone.empty()) {
    answered(gone.size());
    tell(gone);
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
  } catch (const std::exception& error) {
    std::vector<Item> own(1);
    own[0] = std::move(item);
    fail(own, to_item_error(error));
    return false;
  }
  item.prepare_seconds = seconds_since(begin);
  job->prepared(item.prepare_seconds);
  if (observer_ != nullptr) {
    const double fit = item.prepared.fit_seconds;
    observer_->prepared(item.image, item.prepare_seconds - fit, fit);
  }
  return true;
}

void Scheduler::finish(std::vector<Item>& batch, std::vector<Embedding> answers) {
  struct Other {
    Claim claim;
    std::size_t of;
  };
  std::vector<Other> others;
  for (std::size_t i = 0; i < batch.size(); ++i) {
    for (Claim& claim : caches_.settle(batch[i], answers[i])) others.push_back({std::move(claim), i});
  }
  answered(batch.size() + others.size());
  for (Other& other : others) {
    Embedding same = answers[other.of];
    same.truncated = other.claim.truncated;
    other.claim.job->finish(batch[other.of].image, other.claim.index, std::move(same));
  }
  for (std::size_t i = 0; i < batch.size(); ++i) {
    batch[i].job->finish(batch[i].image, batch[i].index, std::move(answers[i]));
  }
  batch.clear();
}

void Scheduler::fail(std::vector<Item>& batch, const ItemError& why) {
  Embedding failed;
  failed.error = why;
  std::vector<Item> none, again;
  std::vector<std::pair<Claim, bool>> told;
  if (!is_the_inputs(why.code)) {
    for (Item& item : batch) {
      const bool image = item.image;
      auto was = caches_.pass_on(item);
      if (!was) continue;
      told.emplace_back(std::move(*was), image);
      item.prepared = {};
      again.push_back(std::move(item));
    }
    std::erase_if(batch, [](const Item& item) { return item.job == nullptr; });
  }
  if (!told.empty()) {
    answered(told.size());
    for (auto& [claim, image] : told) claim.job->finish(image, claim.index, failed);
    if (!queue(none, again)) {
      Embedding stopped;
      stopped.error = stop_error_;
      finish(again, std::vector<Embedding>(again.size(), stopped));
    }
  }
  const std::size_t count = batch.size();
  finish(batch, std::vector<Embedding>(count, failed));
}

void Scheduler::drop_abandoned(std::vector<Item>& batch) {
  Gone gone;
  const auto now = Clock::now();
  std::erase_if(batch, [&](Item& item) { return !caches_.drop_gone(item, now, gone); });
  if (gone.empty()) return;
  answered(gone.size());
  tell(gone);
}

void Scheduler::tell(Gone& gone) {
  for (auto& [claim, reason] : gone) claim.job->finish_failed(std::move(reason));
  gone.clear();
}

void Scheduler::answered(std::size_t items) {
  {
    const std::lock_guard lock(mutex_);
    items_ -= items;
  }
  room_.notify_all();
}

void Scheduler::collect_gone(Clock::time_point now, Gone& gone) {
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

void Scheduler::drop_abandoned() {
  Gone gone;
  {
    const std::lock_guard lock(mutex_);
    collect_gone(Clock::now(), gone);
    start_pumps();
  }
  answered(gone.size());
  tell(gone);
}

void Scheduler::stop(const ItemError& error) {
  std::vector<Item> left;
  {
    std::unique_lock lock(mutex_);
    if (!stopped_) stop_error_ = error;
    stopped_ = true;
    ++changes_;
    for (auto& work : work_) work.notify_all();
    room_.notify_all();
    quiet_.wait(lock, [this] { return pumps_ == 0; });
    for (auto& level : raw_) {
      for (auto& queue : level) {
        for (auto& [turn, item] : queue) left.push_back(std::move(item));
        queue.clear();
      }
    }
    for (auto& level : ready_) {
      for (auto& queue : level) {
        for (auto& [turn, r] : queue) left.push_back(std::move(r.item));
        queue.clear();
      }
    }
    coming_ = {};
    prepared_ = 0;
  }
  Embedding none;
  none.error = error;
  Gone gone;
  for (Item& item : left) {
    for (Claim& claim : caches_.settle(item, none)) gone.emplace_back(std::move(claim), error);
    gone.emplace_back(Claim{std::move(item.job), item.index}, error);
  }
  answered(gone.size());
  tell(gone);
}

std::size_t Scheduler::size() const {
  const std::lock_guard lock(mutex_);
  return items_;
}

}  // namespace tandem::engine
