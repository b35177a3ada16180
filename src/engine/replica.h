// A model on a device with the memory to run one batch at a time. Made and used on one thread.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "engine/job.h"
#include "model/model.h"

namespace tandem::engine {

struct ReplicaOptions {
  DeviceId device;
  Precision precision = Precision::automatic;
  int max_batch = 0;  ///< 0: chosen
  bool vision = true, text = true;
};

class Replica {
 public:
  /// Makes the backend, loads the weights, plans and allocates the arena. Throws what load_model() and backends throw.
  Replica(const model::ModelFiles& files, const ReplicaOptions& options, const ContextOptions& context);

  /// Items that fit one pass, counted from the front of `items`: all images or all texts.
  std::size_t fitting(std::span<const Item* const> items) const;

  /// Computes a batch of items of one kind with equal options: an Embedding each. Throws when the whole pass failed.
  std::vector<Embedding> run(std::span<Item> items);

  const model::Model& model() const noexcept { return model_; }
  backend::Backend& backend() noexcept { return *backend_; }
  int max_batch() const noexcept { return max_batch_; }
  std::size_t arena_bytes() const noexcept { return arena_.capacity(); }

 private:
  void plan(const ReplicaOptions& options, const ContextOptions& context);
  model::TowerOutput encode(std::span<Item> items, const EmbedOptions& options);

  std::unique_ptr<backend::Backend> backend_;
  model::Model model_;
  parallel::Alone alone_;
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
