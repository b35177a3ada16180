// One stream of work on a device: a backend, the memory to run one batch at a time, and the batches on their way. Used
// by one thread at a time; its weights are shared.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/job.h"
#include "model/model.h"

namespace tandem::engine {

/// Items of a pass: so many images, or so many texts of full length. 0: a lane does not take that kind.
struct PassSize {
  std::int64_t images = 0, texts = 0;
};

class Lane {
 public:
  /// helpers: threads that help to copy pixels, as they have time; may be null.
  Lane(std::unique_ptr<backend::Backend> backend, std::shared_ptr<const model::Model> model, ThreadPool* helpers);
  ~Lane();

  /// Bytes of device memory that passes of this size take: the activations, what the backend adds to them, and the
  /// pixels that wait for them.
  std::size_t bytes(PassSize size) const { return arena_bytes(size) + backend_bytes(size) + slot_bytes(size.images); }
  std::size_t arena_bytes(PassSize size) const;
  /// Takes them. Throws out_of_memory.
  void allocate(PassSize size);

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
  /// forgotten it then as well. asleep: where other threads need the processor, as Backend::wait_asleep().
  std::vector<Embedding> finish(std::span<Item> items, bool asleep = false);
  /// Of the batch finished last: seconds that handing its pixels over took, and the rest.
  double copy_seconds() const noexcept { return copy_seconds_; }
  double compute_seconds() const noexcept { return compute_seconds_; }
  /// A pass of so many items ran out of memory: half as many, at least one, are from now on the most of their kind,
  /// until many passes have gone well. Returns how many that are.
  std::size_t shrink(bool images, std::size_t items);

  const model::Model& model() const noexcept { return *model_; }
  backend::Backend& backend() noexcept { return *backend_; }
  /// Batches that were computed.
  std::uint64_t finished() const noexcept { return passes_; }

 private:
  /// What a batch keeps from its beginning to its end: pixels on the device, vectors on the host.
  struct Slot {
    Buffer pixels, vectors;
    std::size_t width = 0;   ///< of a vector on the host; 0: they stay on the device
    bool normalize = false;  ///< on the host
    std::uint64_t mark = 0;
    Clock::time_point begun;
    double copying = 0;  ///< seconds
  };

  std::size_t backend_bytes(PassSize size) const;
  /// Pixels of all slots.
  std::size_t slot_bytes(std::int64_t images) const;
  std::size_t picture_bytes() const;
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
  Arena arena_;
  std::vector<Slot> slots_;     ///< two where the device works beside the host, else one
  std::size_t next_ = 0;        ///< of the batch that is begun next
  std::size_t begun_ = 0;       ///< batches that are not finished
  Clock::time_point finished_;  ///< the last batch: the device was not this one's before
  PassSize size_, most_;        ///< as allocated; as it is now taken, after passes that found no memory
  std::uint64_t passes_ = 0, shrunk_at_ = 0;
  double copy_seconds_ = 0, compute_seconds_ = 0;
  // Host staging, reused by every batch.
  std::vector<std::span<const std::int32_t>> ids_;
  model::PackedTexts packed_;
};

}  // namespace tandem::engine
