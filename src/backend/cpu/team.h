// The threads that share a backend's operations.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "backend/shared_cores.h"

namespace tandem::backend::cpu {

/// A caller and threads - 1 workers of its own. Every thread starts with its own share of the tasks, in order, and then
/// takes what is left of the others', from their ends. Operations number their tasks by rows of the batch, so a thread
/// finds in its core's cache what it wrote in the operation before. A call returns when all tasks are done and never
/// waits for a worker that has not claimed one: on a machine that others use too, a worker that does not get a core
/// costs its help, not the operation. (An OpenMP region ends only when every thread has been there.)
///
/// Workers look for work for some tens of microseconds after the last, which bridges the gaps inside a forward pass,
/// and sleep between passes. One thread at a time may call run().
///
/// Teams on the same cores divide them (SharedCores): with two passes under way each operation has half of its team's
/// threads.
class Team {
 public:
  enum class Kind : std::uint8_t {
    own,
    /// oneDNN brings OpenMP's threads: they do everything then, two teams would fight over the cores.
    openmp,
  };
  /// Worker i is bound to cores[i]; the caller to cores[0] when it first calls. Empty: nobody is bound. Throws
  /// unavailable where the system gives no threads.
  /// `shared`: the cores, where this team has them together with others; null: for itself.
  Team(int threads, Kind kind, std::vector<int> cores, std::shared_ptr<const SharedCores> shared = nullptr);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  /// Of an operation that starts now.
  int threads() const noexcept { return shared_ == nullptr ? threads_ : shared_->part_of(threads_); }

  /// body(task, thread) for every task; must not throw. `small` work stays on the calling thread.
  template <class Body>
  void run(std::int64_t tasks, bool small, const Body& body) {
    const int width = small || tasks <= 1 ? 1 : threads();
    if (width == 1) {
      for (std::int64_t t = 0; t < tasks; ++t) body(t, 0);
      return;
    }
    run_all(
        tasks, width,
        [](const void* b, std::int64_t task, int thread) { (*static_cast<const Body*>(b))(task, thread); }, &body);
  }

 private:
  using Function = void (*)(const void* body, std::int64_t task, int thread);
  void run_all(std::int64_t tasks, int width, Function function, const void* body);
  void stop();
  void bind_caller();
  void work(int thread);
  bool help(int thread);

  int threads_;
  Kind kind_;
  std::vector<int> cores_;
  std::shared_ptr<const SharedCores> shared_;
  std::thread::id bound_;

  /// Tasks of one thread's share that nobody has claimed: the first in the upper half, one past the last in the lower.
  struct alignas(64) Share {
    std::atomic<std::uint64_t> open{0};
  };
  std::int64_t claim(int thread);

  // The job: written before a share says that it is there, read only after a task of it was claimed.
  Function function_ = nullptr;
  const void* body_ = nullptr;
  std::int64_t tasks_ = 0;
  /// Claiming the last task closes the job to those who come late, whatever comes next.
  std::vector<Share> shares_;
  alignas(64) std::atomic<std::int64_t> done_{0};
  alignas(64) std::atomic<int> calls_{0};  // changes with every job: what sleeping workers wait for
  std::atomic<int> width_;                 // threads of the latest job, the caller among them: the others sleep
  // Who sleeps says so before it looks for the last time, and who has news asks after it has told them: one of the two
  // sees the other. The library's own count is shared with every other atomic that somebody waits for: where another
  // team sleeps, each operation would call the kernel twice.
  std::atomic<int> asleep_{0};
  std::atomic<bool> caller_sleeps_{false};
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

}  // namespace tandem::backend::cpu
