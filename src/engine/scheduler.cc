#include "engine/scheduler.h"

#include <algorithm>
#include <thread>

#include "base/strings.h"

namespace tandem::engine {

Scheduler::Scheduler(const Preparer& preparer, ThreadPool& pool, std::size_t max_items, std::size_t prepare_ahead,
                     Observer* observer)
    : preparer_(preparer), pool_(pool), max_items_(max_items), prepare_ahead_(prepare_ahead), observer_(observer) {}

void Scheduler::submit(Request request, OnDone on_done, bool wait) {
  const std::size_t count = request.images.size() + request.texts.size();
  if (count == 0) {
    on_done(Response{});
    return;
  }
  if (count > max_items_) {
    throw Error(Code::too_large, cat("a request of ", count, " items is larger than the queue of ", max_items_,
                                     ": split it, or raise max_queue"));
  }
  // Before the items are counted: what fails here must not take room for ever.
  auto job = std::make_shared<Job>(std::move(request), std::move(on_done));
  {
    std::unique_lock lock(mutex_);
    if (wait) room_.wait(lock, [&] { return stopped_ || items_ + count <= max_items_; });
    if (stopped_) throw Error(stop_error_.code, stop_error_.message);
    if (items_ + count > max_items_) {
      throw Error(Code::overloaded, cat("the queue of ", max_items_, " items is full (", items_, " waiting, ", count,
                                        " more asked for): try again later"));
    }
    items_ += count;
  }
  std::vector<Item> ready, raw;
  const auto sort = [&](Item item, bool cheap) {
    if (!cheap) {
      raw.push_back(std::move(item));
    } else if (prepare(item)) {
      ready.push_back(std::move(item));
    }
  };
  const Request& r = job->request();
  for (std::size_t i = 0; i < r.images.size(); ++i) sort({job, true, i, {}}, preparer_.is_cheap(r.images[i]));
  for (std::size_t i = 0; i < r.texts.size(); ++i) sort({job, false, i, {}}, Preparer::is_cheap(r.texts[i]));

  std::size_t lost = 0;
  const auto any = [&](bool image) {
    return std::any_of(ready.begin(), ready.end(), [&](const Item& item) { return item.image == image; });
  };
  const bool images = any(true), texts = any(false);
  {
    const std::lock_guard lock(mutex_);
    if (stopped_) {
      lost = ready.size() + raw.size();
    } else {
      prepared_ += ready.size();
      for (Item& item : ready) push_ready(std::move(item));
      for (Item& item : raw) raw_[level(item)].push_back(std::move(item));
      start_pumps();
    }
  }
  if (lost > 0) {
    answered(lost);
    for (std::size_t i = 0; i < lost; ++i) job->finish_failed(stop_error_);
  } else {
    if (images) notify(true);
    if (texts) notify(false);
  }
}

void Scheduler::push_ready(Item item) {
  auto& queue = item.image ? images_ : texts_;
  const std::size_t at = level(item);
  queue[at].push_back({std::move(item), order_++});
  ++changes_;
}

std::deque<Scheduler::Ready>* Scheduler::oldest_claim(const Taker& taker) {
  for (std::size_t at = 0; at < 2; ++at) {
    std::deque<Ready>* const images = taker.images && !images_[at].empty() ? &images_[at] : nullptr;
    std::deque<Ready>* const texts = taker.texts && !texts_[at].empty() ? &texts_[at] : nullptr;
    if (images == nullptr && texts == nullptr) continue;
    if (images == nullptr || texts == nullptr) return images == nullptr ? texts : images;
    return images->front().order < texts->front().order ? images : texts;
  }
  return nullptr;
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
  while (!stopped_ && pumps_ < pool_.size() && has_raw() &&
         prepared_ + static_cast<std::size_t>(pumps_) < prepare_ahead_) {
    pool_.post([this] { pump(); });  // which waits for the lock that is held here
    ++pumps_;                        // not before: stop() would wait for one that could not be posted
    if (static_cast<std::size_t>(pumps_) >= raw_[0].size() + raw_[1].size()) break;
  }
}

void Scheduler::pump() {
  std::unique_lock lock(mutex_);
  while (!stopped_ && has_raw() && prepared_ < prepare_ahead_) {
    auto& queue = raw_[0].empty() ? raw_[1] : raw_[0];
    Item item = std::move(queue.front());
    queue.pop_front();
    ++prepared_;
    lock.unlock();
    const bool good = prepare(item);
    lock.lock();
    if (good) {
      const bool image = item.image;
      push_ready(std::move(item));
      notify(image);
    } else {
      --prepared_;
    }
  }
  if (--pumps_ == 0) quiet_.notify_all();
}

bool Scheduler::prepare(Item& item) {
  const Request& request = item.job->request();
  const auto begin = Clock::now();
  if (auto reason = item.job->abandoned(begin)) {
    answered(1);  // before the answer: who has it may come back at once
    item.job->finish_failed(std::move(*reason));
    return false;
  }
  try {
    item.prepared =
        item.image ? preparer_.prepare(request.images[item.index]) : preparer_.prepare(request.texts[item.index]);
  } catch (const std::exception& error) {
    Embedding failed;
    failed.error = to_item_error(error);
    answered(1);
    item.job->finish(item.image, item.index, std::move(failed));
    return false;
  }
  item.prepare_seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  item.job->prepared(item.prepare_seconds);
  if (observer_ != nullptr) {
    const double fit = item.prepared.fit_seconds;
    observer_->prepared(item.image, item.prepare_seconds - fit, fit);
  }
  return true;
}

void Scheduler::answered(std::size_t items) {
  {
    const std::lock_guard lock(mutex_);
    items_ -= items;
  }
  room_.notify_all();
}

void Scheduler::drop_abandoned() {
  std::vector<std::pair<Item, ItemError>> gone;
  const auto now = Clock::now();
  const auto look = [&](Item& item) {
    if (auto reason = item.job->abandoned(now)) gone.emplace_back(std::move(item), std::move(*reason));
  };
  {
    const std::lock_guard lock(mutex_);
    for (auto* kind : {&images_, &texts_}) {
      for (auto& queue : *kind) {
        for (Ready& r : queue) look(r.item);
        prepared_ -= std::erase_if(queue, [](const Ready& r) { return r.item.job == nullptr; });
      }
    }
    for (auto& queue : raw_) {
      for (Item& item : queue) look(item);
      std::erase_if(queue, [](const Item& item) { return item.job == nullptr; });
    }
    start_pumps();
  }
  answered(gone.size());  // before the answers: who has one may come back at once
  for (auto& [item, reason] : gone) item.job->finish_failed(std::move(reason));
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
    for (auto& queue : raw_) {
      for (Item& item : queue) left.push_back(std::move(item));
      queue.clear();
    }
    for (auto* kind : {&images_, &texts_}) {
      for (auto& queue : *kind) {
        for (Ready& r : queue) left.push_back(std::move(r.item));
        queue.clear();
      }
    }
    items_ -= left.size();
    prepared_ = 0;
  }
  for (Item& item : left) item.job->finish_failed(error);
}

std::size_t Scheduler::size() const {
  const std::lock_guard lock(mutex_);
  return items_;
}

}  // namespace tandem::engine
