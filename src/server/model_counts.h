// What the engine of one model computed, beside what telemetry counts of all.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

#include "tandem/observer.h"

namespace tandem::server {

/// Counts, and tells the observer of the whole server. Thread-safe.
class ModelCounts final : public Observer {
 public:
  explicit ModelCounts(std::shared_ptr<Observer> whole) : whole_(std::move(whole)) {}

  void prepared(bool image, double decode, double resize) noexcept override { whole_->prepared(image, decode, resize); }
  void waited(bool image, double seconds) noexcept override { whole_->waited(image, seconds); }
  void computed(bool image, std::size_t items, double copy, double compute) noexcept override {
    (image ? images : texts) += items;
    ++batches;
    nanoseconds += static_cast<std::uint64_t>(compute * 1e9);
    whole_->computed(image, items, copy, compute);
  }

  std::atomic<std::uint64_t> images{0}, texts{0}, batches{0};
  std::atomic<std::uint64_t> nanoseconds{0};  ///< that batches took to compute

 private:
  const std::shared_ptr<Observer> whole_;
};

}  // namespace tandem::server
