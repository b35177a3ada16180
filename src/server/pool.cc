#include "server/pool.h"

#include "base/strings.h"
#include "tandem/error.h"

namespace tandem::server {

Pool::Pool(int threads, std::size_t max_waiting) : max_waiting_(max_waiting) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
}

Pool::~Pool() {
  stop();
}

void Pool::submit(std::function<void()> task) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) throw Error(Code::unavailable, "the server is stopping");
    if (waiting_.size() >= max_waiting_) {
      throw Error(Code::overloaded, cat(max_waiting_, " requests wait to be read already; try again shortly"));
    }
    waiting_.push_back(std::move(task));
  }
  wake_.notify_one();
}

void Pool::finish(std::function<void()> task) {
  {
    const std::lock_guard lock(mutex_);
    if (!stopped_) {
      waiting_.push_back(std::move(task));
      task = nullptr;
    }
  }
  if (task) {
    task();
  } else {
    wake_.notify_one();
  }
}

void Pool::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (auto& thread : threads_) thread.join();
  threads_.clear();
  std::deque<std::function<void()>> rest;
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    rest.swap(waiting_);
  }
  for (auto& task : rest) task();
}

void Pool::work() {
  for (;;) {
    std::function<void()> task;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
      if (waiting_.empty()) return;
      task = std::move(waiting_.front());
      waiting_.pop_front();
    }
    task();
  }
}

}  // namespace tandem::server
