#include "base/parallel_for.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <utility>

namespace tandem {
namespace {

/// What the caller and its helpers share. A helper that comes late finds the loop closed and touches nothing else.
struct Loop {
  std::mutex mutex;
  std::condition_variable done;
  const std::function<void(std::size_t)>* body = nullptr;
  std::size_t next = 0, count = 0;
  int running = 0;
  std::exception_ptr failure;
  std::size_t failed_at = 0;

  void work(std::unique_lock<std::mutex>& lock) {
    while (next < count) {
      const std::size_t i = next++;
      std::exception_ptr thrown;
      lock.unlock();
      try {
        (*body)(i);
      } catch (...) {
        thrown = std::current_exception();
      }
      lock.lock();
      if (!thrown) continue;
      if (!failure || i < failed_at) failure = std::move(thrown), failed_at = i;
      next = count;
    }
  }
};

}  // namespace

void parallel_for(ThreadPool* pool, int helpers, std::size_t count, const std::function<void(std::size_t)>& body) {
  const auto loop = std::make_shared<Loop>();
  loop->body = &body, loop->count = count;
  const std::size_t wanted = pool == nullptr || count < 2 ? 0 : static_cast<std::size_t>(std::max(helpers, 0));
  for (std::size_t h = 0; h < std::min(wanted, count - 1); ++h) {
    pool->post([loop] {
      std::unique_lock lock(loop->mutex);
      if (loop->next >= loop->count) return;  // the caller may be gone, and its body with it
      ++loop->running;
      loop->work(lock);
      if (--loop->running == 0) loop->done.notify_all();
    });
  }
  std::unique_lock lock(loop->mutex);
  loop->work(lock);
  loop->done.wait(lock, [&] { return loop->running == 0; });
  // Taken out: a helper that comes late destroys the loop, and must not hold what the caller looks at.
  const std::exception_ptr failure = std::exchange(loop->failure, nullptr);
  lock.unlock();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace tandem
