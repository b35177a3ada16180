// Label sets turned into vectors, kept for the next request that names the same labels.
#pragma once

#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#include "tandem/engine.h"

namespace tandem::server {

/// Hands a request to the engine; calls back on a worker thread. Throws what Encoder::submit throws.
using Submit = std::function<void(Request, OnDone)>;

using LabelResult = std::variant<std::shared_ptr<const LabelSet>, ItemError>;
using OnLabels = std::function<void(const LabelResult&)>;

/// Thread-safe. Equal sets asked for at the same time are computed once. Sets are computed through the engine's queue,
/// in portions, so that a large set neither fills the queue nor holds a thread while it waits.
class LabelCache : public std::enable_shared_from_this<LabelCache> {
 public:
  /// Keeps the most recently used sets up to max_bytes of vectors and texts.
  LabelCache(Submit submit, std::size_t max_bytes, std::size_t portion = 256);

  /// Calls on_labels once: now, if the set is there, else on a worker thread. No template: the labels themselves.
  /// `cancel` withdraws this caller; the work stops when every caller has withdrawn.
  void get(const std::vector<std::string>& labels, const std::vector<std::string>& templates, CancelFlag cancel,
           OnLabels on_labels);

  /// Forgets the sets that nobody uses just now.
  void clear();

  /// Sets computed and sets found, since the start.
  std::size_t misses() const;
  std::size_t hits() const;

 private:
  struct Job;
  struct Entry {
    std::string key;
    std::shared_ptr<const LabelSet> labels;
    std::size_t bytes = 0;
  };

  void next_portion(const std::shared_ptr<Job>& job);
  void take_portion(const std::shared_ptr<Job>& job, std::variant<Response, ItemError> result);
  void finish(const std::shared_ptr<Job>& job, const LabelResult& result);

  const Submit submit_;
  const std::size_t max_bytes_, portion_;
  mutable std::mutex mutex_;
  std::list<Entry> entries_;  ///< most recently used first
  std::unordered_map<std::string, std::list<Entry>::iterator> found_;
  std::unordered_map<std::string, std::shared_ptr<Job>> running_;
  std::size_t bytes_ = 0, hits_ = 0, misses_ = 0;
};

}  // namespace tandem::server
