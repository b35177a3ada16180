// Something that is done again and again, whatever else goes on.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string_view>
#include <thread>
#include <utility>

#include "base/thread_pool.h"
#include "tandem/error.h"

namespace tandem::engine {

/// Calls a function every `pause`, on a thread of its own, for as long as it lives. Where the system gives no thread it
/// does nothing.
class Ticker {
 public:
  Ticker(std::string_view what, std::chrono::milliseconds pause, std::function<void()> body) {
    try {
      thread_ = start_thread(what, [this, pause, body = std::move(body)] {
        std::unique_lock lock(mutex_);
        while (!changed_.wait_for(lock, pause, [this] { return over_; })) body();
      });
    } catch (const Error&) {  // then it is not done
    }
  }
  ~Ticker() {
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
    }
    changed_.notify_all();
    if (thread_.joinable()) thread_.join();
  }
  Ticker(const Ticker&) = delete;
  Ticker& operator=(const Ticker&) = delete;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool over_ = false;
  std::thread thread_;
};

}  // namespace tandem::engine
