#include "base/thread_pool.h"

#include "base/strings.h"
#include "tandem/error.h"

namespace tandem {

void throw_no_thread(std::string_view what, const std::error_code& why) {
  throw Error(Code::unavailable,
              cat("cannot start ", what, ": ", why.message(),
                  "; raise the limits of processes and memory (ulimit -u, -v), or use fewer threads"));
}

ThreadPool::ThreadPool(int threads, PoolOptions options) : size_(threads), options_(std::move(options)) {
  try {
    for (int i = 0; i < threads; ++i) {
      threads_.push_back(
          start_thread(cat("thread ", i + 1, " of ", threads), [this, i] { work(static_cast<std::size_t>(i)); }));
    }
  } catch (...) {  // those that run must end before their objects do
    stop();
    throw;
  }
}

ThreadPool::~ThreadPool() {
  stop();
}

void ThreadPool::submit(std::function<void()> task) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) throw Error(Code::unavailable, "no more work is taken: the program is stopping");
    if (waiting_.size() >= options_.max_waiting) {
      throw Error(Code::overloaded, cat(waiting_.size(), " pieces of work wait for a thread; try again shortly"));
    }
    waiting_.push_back(std::move(task));
  }
  wake_.notify_one();
}

void ThreadPool::post(std::function<void()> task) {
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

void ThreadPool::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (auto& thread : threads_) thread.join();
  threads_.clear();
  // What was posted after the last thread had found nothing to do.
  std::deque<std::function<void()>> rest;
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    rest.swap(waiting_);
  }
  for (auto& task : rest) task();
}

void ThreadPool::work(std::size_t index) {
  name_thread(options_.name.c_str());
  if (!options_.cores.empty()) bind_to_core(options_.cores[index % options_.cores.size()]);
  for (bool gave_way = false;;) {
    std::function<void()> task;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
      if (waiting_.empty()) return;
      task = std::move(waiting_.front());
      waiting_.pop_front();
    }
    if (gives_way_ && !std::exchange(gave_way, true)) tandem::give_way();
    task();
  }
}

}  // namespace tandem
