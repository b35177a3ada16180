// The threads that compute: each makes a replica, works with it and destroys it, and replaces it when its device fails.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/log.h"
#include "engine/replica.h"
#include "engine/serving.h"

namespace tandem::engine {

class Workers {
 public:
  /// Makes a replica. sharing: how many, this one included, still have to find room in the memory that is left.
  using Make = std::function<std::unique_ptr<Replica>(int index, int sharing)>;
  struct Work {
    /// Computes until there is no more work, or until the replica's device has failed: then why. It calls on_lost with
    /// that reason, once or more and from any thread, before it answers anybody with it: health() shall say so by then.
    std::function<std::optional<ItemError>(Replica&, const OnLost& on_lost)> serve;
    /// The last replica has failed and cannot be replaced.
    std::function<void(const ItemError&)> none_left;
    /// How long to wait before each try to replace a replica; no more tries than these without a batch computed between
    /// them.
    std::vector<std::chrono::milliseconds> pauses;
    Logger logger;
  };

  /// Calls make(0, count) … make(count - 1, 1), one after another, each on a thread of its own. Throws what the first
  /// failing one threw once the others are gone, and unavailable where the system gives no thread.
  Workers(int count, Make make);
  /// Joins: a work that was started must have been told to return.
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  /// Serves on every thread; when that returns for good, its replica dies there. Once.
  void start(Work work);

  int size() const noexcept { return static_cast<int>(replicas_.size()); }
  /// Only until start(): afterwards a replica is its thread's.
  Replica& replica(int index) noexcept { return *replicas_[static_cast<std::size_t>(index)]; }
  EngineHealth health() const;

 private:
  void join();
  /// A thread's life after its first replica was made.
  void serve(int index, const Work& work);
  /// A new replica in place of one that health_ has as being replaced; null: shutting down, or every try failed.
  /// `tries`: those made since a batch was last computed.
  std::unique_ptr<Replica> replace(int index, const Work& work, ItemError why, std::size_t& tries);
  /// Waits; false: shutting down.
  bool pause(std::chrono::milliseconds how_long);

  const Make make_;
  std::promise<Work> start_;  ///< without functions: there will be no work
  std::shared_future<Work> work_ = start_.get_future().share();
  bool started_ = false;
  std::vector<std::unique_ptr<Replica>> replicas_;
  std::vector<std::thread> threads_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  EngineHealth health_;
  bool stopping_ = false;
};

}  // namespace tandem::engine
