// Threads for what is too long for an I/O thread and is not the engine's: large bodies, answers, files.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace tandem::server {

class Pool {
 public:
  Pool(int threads, std::size_t max_waiting);
  ~Pool();  ///< stop()
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  /// Runs `task` soon. Throws overloaded when max_waiting tasks wait already. Tasks must not throw.
  void submit(std::function<void()> task);
  /// The same for the second half of admitted work (an answer to write): never refused, since what is under way is
  /// bounded elsewhere. After stop() it runs on the caller's thread.
  void finish(std::function<void()> task);
  /// Runs what waits, then ends the threads.
  void stop();

 private:
  void work();

  const std::size_t max_waiting_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> waiting_;
  bool stopping_ = false, stopped_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace tandem::server
