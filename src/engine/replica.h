// A model on a device with the memory to run its passes: one lane for both towers, or where the device works beside the
// host one lane a tower, so that images and texts are computed at the same time.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/batch_plan.h"
#include "engine/lane.h"
#include "engine/memory_budget.h"

namespace tandem::engine {

/// How large a replica may become.
struct ReplicaLimits {
  int max_batch = 0;              ///< items of a pass; 0: chosen
  std::size_t most = SIZE_MAX;    ///< bytes that it may reserve from the budget
  ThreadPool* helpers = nullptr;  ///< threads that help to copy pixels, as they have time; may be null
  std::size_t fixed = 0;          ///< bytes of the device that the backends held before there were weights
};

class Replica {
 public:
  /// One backend: it computes both kinds. Two, of one device: the first computes images, the second texts.
  using Backends = std::vector<std::unique_ptr<backend::Backend>>;

  /// Whether a model is better served by two backends such as this one.
  static bool wants_two(const backend::Backend& backend, const model::Model& model) noexcept {
    return backend.stream() != nullptr && model.vision && model.text;
  }

  /// Plans and allocates the memory of a pass of each kind: for max_batch items, or as many of them as fit. Throws
  /// out_of_memory where not even one fits.
  Replica(Backends backends, std::shared_ptr<const model::Model> model, ReplicaLimits limits, MemoryBudget& budget);

  std::size_t lanes() const noexcept { return lanes_.size(); }
  Lane& lane(std::size_t i) noexcept { return *lanes_[i]; }
  bool takes_images(std::size_t lane) const noexcept { return lane == 0; }
  bool takes_texts(std::size_t lane) const noexcept { return lane + 1 == lanes_.size(); }

  /// Items of its largest passes.
  std::size_t most_images() const noexcept { return static_cast<std::size_t>(size_.images); }
  std::size_t most_texts() const noexcept { return static_cast<std::size_t>(size_.texts); }
  /// How items of a kind that wait are cut into passes.
  const BatchPlan& batch_plan(bool images) const noexcept { return plans_[images ? 1 : 0]; }
  void use(bool images, BatchPlan plan) { plans_[images ? 1 : 0] = std::move(plan); }
  Lane& lane_of(bool images) noexcept { return images ? *lanes_.front() : *lanes_.back(); }
  /// What was computed before there was any work.
  const Rehearsed& rehearsed() const noexcept { return rehearsed_; }
  void set_rehearsed(Rehearsed rehearsed) { rehearsed_ = std::move(rehearsed); }

  /// Batches that were computed, by all lanes.
  std::uint64_t finished() const noexcept;

  const model::Model& model() const noexcept { return *model_; }
  backend::Backend& backend() noexcept { return lanes_[0]->backend(); }
  /// Adds how its backends' kernels were chosen.
  void add_choices(std::vector<std::shared_ptr<const backend::Choices>>& to) const;
  void add_work(std::vector<std::shared_ptr<const backend::LinearWork>>& to) const;
  int max_batch() const noexcept { return static_cast<int>(model_->vision ? size_.images : size_.texts); }
  /// Of the activations of all lanes, and of the pixels that wait for them.
  std::size_t arena_bytes() const noexcept { return reserved_.bytes(); }
  /// What the plan expects of device_bytes() beside weights.
  std::size_t planned_bytes() const noexcept { return arena_bytes() + fixed_; }
  /// What its backends allocated themselves, at most so far: weights as well, by whom they were loaded.
  std::size_t device_bytes() const;

 private:
  PassSize part(std::size_t lane) const {
    return {takes_images(lane) ? size_.images : 0, takes_texts(lane) ? size_.texts : 0};
  }
  std::size_t bytes() const;
  /// The largest arena of a lane.
  std::size_t largest_arena() const;
  /// Halves what takes most. False: it is as small as can be.
  bool shrink();
  void plan(ReplicaLimits limits, MemoryBudget& budget);

  std::shared_ptr<const model::Model> model_;
  MemoryBudget::Reservation reserved_;  ///< given back after the lanes are gone
  std::vector<std::unique_ptr<Lane>> lanes_;
  PassSize size_;
  std::array<BatchPlan, 2> plans_;  ///< texts, images
  Rehearsed rehearsed_;
  std::size_t fixed_;
};

}  // namespace tandem::engine
