// The threads that compute: each makes a replica, works with it and destroys it.
#pragma once

#include <functional>
#include <future>
#include <memory>
#include <thread>
#include <vector>

#include "engine/replica.h"

namespace tandem::engine {

class Workers {
 public:
  using Make = std::function<std::unique_ptr<Replica>(int index)>;
  using Work = std::function<void(Replica&)>;

  /// Calls make(0) … make(count - 1), one after another, each on a thread of its own. Throws what the first failing one
  /// threw once the others are gone, and unavailable where the system gives no thread.
  Workers(int count, const Make& make);
  /// Joins: a work that was started must have been told to return.
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  /// Runs work(replica) on every thread; when it returns, its replica dies there. Once.
  void start(Work work);

  int size() const noexcept { return static_cast<int>(replicas_.size()); }
  /// Only until start(): afterwards a replica is its thread's.
  Replica& replica(int index) noexcept { return *replicas_[static_cast<std::size_t>(index)]; }

 private:
  void join();

  std::promise<Work> start_;  ///< an empty function: there will be no work
  std::shared_future<Work> work_ = start_.get_future().share();
  bool started_ = false;
  std::vector<std::unique_ptr<Replica>> replicas_;
  std::vector<std::thread> threads_;
};

}  // namespace tandem::engine
