// Threads: started with a clear error, and a fixed set of them that runs tasks.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <limits>
#include <mutex>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace tandem {

/// Throws unavailable, saying what was to be started and what to do about `why`.
[[noreturn]] void throw_no_thread(std::string_view what, const std::error_code& why);

/// A thread that runs `body`, or unavailable where the system gives none. what: "the loader".
template <class Body>
std::thread start_thread(std::string_view what, Body&& body) {
  try {
    return std::thread(std::forward<Body>(body));
  } catch (const std::system_error& error) {
    throw_no_thread(what, error.code());
  }
}

/// Beside the threads that a ThreadPool is of.
struct PoolOptions {
  std::size_t max_waiting = std::numeric_limits<std::size_t>::max();  ///< tasks of submit() that wait for a thread
  /// Each thread is bound to one of these, in turn, as bind_to_core() does; none: they go where the system puts them.
  std::vector<int> cores = {};
  std::string name = "pool";  ///< of every thread, as name_thread() takes it
};

/// Runs tasks in the order they came. Tasks must not throw.
class ThreadPool {
 public:
  /// Throws unavailable where the system gives no threads.
  explicit ThreadPool(int threads, PoolOptions options = {});
  ~ThreadPool();  ///< stop()
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  /// Throws overloaded when options.max_waiting tasks wait already, unavailable once the pool is stopping.
  void submit(std::function<void()> task);
  /// The same for the second half of admitted work, which is bounded elsewhere: never refused. After stop() it runs on
  /// the caller's thread.
  void post(std::function<void()> task);
  /// Runs what waits, then ends the threads. Not from two threads at once.
  void stop();

  /// From its next task on each thread gives way to the process's others, as tandem::give_way() says.
  void give_way() noexcept { gives_way_ = true; }

  /// Threads that it was made with.
  int size() const noexcept { return size_; }

 private:
  void work(std::size_t index);

  const int size_;
  const PoolOptions options_;
  std::atomic<bool> gives_way_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> waiting_;
  bool stopping_ = false, stopped_ = false;
  std::vector<std::thread> threads_;
};

/// Cores that this process may use (its affinity mask, not the machine's count); at least 1.
int usable_cores() noexcept;
/// Their numbers, ascending; empty where the system does not say.
std::vector<int> usable_core_numbers();
/// Keeps the calling thread on one core. Best effort: a thread that is not bound computes the same.
void bind_to_core(int core) noexcept;
/// The calling thread computes when the process's others do not need the processors. Best effort, and for good.
void give_way() noexcept;
/// What top -H and debuggers call the calling thread: at most 15 characters.
void name_thread(const char* name) noexcept;

}  // namespace tandem
