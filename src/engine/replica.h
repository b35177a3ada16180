// A model on a device with the memory to run one batch at a time. Made and used on one thread; its weights are shared.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/job.h"
#include "engine/memory_budget.h"
#include "model/model.h"

namespace tandem::engine {

/// How large a replica may become.
struct ReplicaLimits {
  int max_batch = 0;              ///< items of a pass; 0: chosen
  std::size_t most = SIZE_MAX;    ///< bytes that it may reserve from the budget
  ThreadPool* helpers = nullptr;  ///< threads that help to copy pixels, as they have time; may be null
};

class Replica {
 public:
  /// Plans and allocates the memory of a pass: for max_batch items, or as many of them as fit. Throws out_of_memory
  /// where not even one fits.
  Replica(std::unique_ptr<backend::Backend> backend, std::shared_ptr<const model::Model> model, ReplicaLimits limits,
          MemoryBudget& budget);
  ~Replica();

  /// Items that fit one pass, counted from the front of `items`: all images or all texts.
  std::size_t fitting(std::span<const Item* const> items) const;
  /// The same where they fill the pass; 0: later items might join them.
  std::size_t filling(std::span<const Item* const> items) const;

  /// Begins to compute a batch of items of one kind with equal options. On a device that works beside the host it
  /// returns as soon as everything is issued, and a second batch may be begun before the first is finished: its pixels
  /// travel while the first is computed. Throws when the whole pass failed; then nothing was begun.
  void begin(std::span<Item> items);
  bool can_begin() const noexcept { return begun_ < slots_.size(); }
  /// Waits for the oldest batch begun, whose items these are: an Embedding each. Throws when the pass failed, and has
  /// forgotten it then as well.
  std::vector<Embedding> finish(std::span<Item> items);

  const model::Model& model() const noexcept { return *model_; }
  backend::Backend& backend() noexcept { return *backend_; }
  int max_batch() const noexcept { return max_batch_; }
  /// Of the activations and of the pixels that wait for them.
  std::size_t arena_bytes() const noexcept { return arena_reserved_.bytes(); }

 private:
  /// What a batch keeps from its beginning to its end: pixels on the device, vectors on the host.
  struct Slot {
    Buffer pixels, vectors;
    std::size_t width = 0;   ///< of a vector on the host; 0: they stay on the device
    bool normalize = false;  ///< on the host
    std::uint64_t mark = 0;
    Clock::time_point begun;
  };

  void plan(int max_batch, std::size_t most, MemoryBudget& budget);
  /// Pixels of all slots.
  std::size_t slot_bytes(std::int64_t batch) const;
  std::size_t picture_bytes() const;
  void allocate(std::size_t arena, std::int64_t text_batch);
  /// Waits for whatever was issued; errors are those of another call.
  void settle() noexcept;
  /// The pixels of a batch in the backend's memory, in a slot or where the caller has them.
  ConstView pixels(std::span<Item> items, Slot& slot);
  model::TowerOutput encode(std::span<Item> items, Slot& slot, const EmbedOptions& options);
  /// Vectors to where their requests want them on the device. False: some are wanted on the host.
  bool leave_on_device(std::span<Item> items, ConstView vectors, bool normalize);

  std::unique_ptr<backend::Backend> backend_;
  std::shared_ptr<const model::Model> model_;
  ThreadPool* helpers_;
  parallel::Alone alone_;
  MemoryBudget::Reservation arena_reserved_;
  Arena arena_;
  std::vector<Slot> slots_;     ///< two where the device works beside the host, else one
  std::size_t next_ = 0;        ///< of the batch that is begun next
  std::size_t begun_ = 0;       ///< batches that are not finished
  Clock::time_point finished_;  ///< the last batch: the device was not this one's before
  int max_batch_ = 1;
  std::int64_t max_text_rows_ = 0;
  // Host staging, reused by every batch.
  std::vector<std::span<const std::int32_t>> ids_;
  model::PackedTexts packed_;
};

}  // namespace tandem::engine
