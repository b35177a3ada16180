// A model on a device with the memory to run one batch at a time. Made and used on one thread; its weights are shared.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "engine/job.h"
#include "engine/memory_budget.h"
#include "model/model.h"

namespace tandem::engine {

class Replica {
 public:
  /// Plans and allocates the arena: for max_batch items of a pass (0: chosen), or as many of them as fit `most` bytes,
  /// which are reserved from the budget. Throws out_of_memory where not even one fits.
  Replica(std::unique_ptr<backend::Backend> backend, std::shared_ptr<const model::Model> model, int max_batch,
          std::size_t most, MemoryBudget& budget);

  /// Items that fit one pass, counted from the front of `items`: all images or all texts.
  std::size_t fitting(std::span<const Item* const> items) const;

  /// Computes a batch of items of one kind with equal options: an Embedding each. Throws when the whole pass failed.
  std::vector<Embedding> run(std::span<Item> items);

  const model::Model& model() const noexcept { return *model_; }
  backend::Backend& backend() noexcept { return *backend_; }
  int max_batch() const noexcept { return max_batch_; }
  std::size_t arena_bytes() const noexcept { return arena_.capacity(); }

 private:
  void plan(int max_batch, std::size_t most, MemoryBudget& budget);
  model::TowerOutput encode(std::span<Item> items, const EmbedOptions& options);

  std::unique_ptr<backend::Backend> backend_;
  std::shared_ptr<const model::Model> model_;
  parallel::Alone alone_;
  MemoryBudget::Reservation arena_reserved_;
  Arena arena_;
  int max_batch_ = 1;
  std::int64_t max_text_rows_ = 0;
  // Host staging, reused by every batch.
  std::vector<std::uint8_t> pixels_;
  std::vector<std::span<const std::int32_t>> ids_;
  model::PackedTexts packed_;
  std::vector<float> vectors_;
};

}  // namespace tandem::engine
