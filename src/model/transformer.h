// The transformer both towers are made of: pre-norm blocks (Radford et al. 2021, section 2.4; Dosovitskiy et al. 2021).
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "backend/backend.h"
#include "model/config.h"
#include "parallel/communicator.h"
#include "tensor/arena.h"

namespace tandem::model {

struct Norm {
  Tensor gamma, beta;  // [D]
};
struct Linear {
  std::unique_ptr<backend::PreparedWeight> weight;  // [N, K]
  Tensor bias;                                      // [N]
};
/// One block's weights. The last block multiplies queries apart from keys and values: it needs them for fewer rows.
/// Of a tensor-parallel group's rank: its heads' and its share of the MLP's.
struct BlockWeights {
  Norm ln_1, ln_2;
  Linear qkv;    // [3D, D], all blocks but the last
  Linear q, kv;  // [D, D] and [2D, D], the last block
  Linear out, fc1, fc2;
};

/// Where blocks come from: resident in the device's memory, or brought in from elsewhere while the one before is
/// computed. A store belongs to the weights, so that replicas share it: its functions may be called for several
/// backends at once; a store that copies keeps places for each of them (a few at fixed addresses, so that a captured
/// graph stays valid).
///
/// A pass fetches blocks 0, 1, …, count() - 1, once each, and releases each before it fetches the next. A store may
/// therefore begin to bring in block i + 1 (after the last: block 0, for the next pass) when i is fetched. A pass that
/// fails releases what it holds and leaves the rest unfetched; the next one begins at 0 again.
class BlockStore {
 public:
  virtual ~BlockStore() = default;
  virtual int count() const = 0;
  /// Block i, for operations issued to `user` from now on: whatever still has to arrive is ordered before them on its
  /// stream. The reference is valid until release(i, user). Throws out_of_memory, device_failure, io_error.
  virtual const BlockWeights& fetch(int i, backend::Backend& user) const = 0;
  /// Every operation that uses block i has been issued to `user`, which need not have finished them: a store that
  /// overwrites the block's place does so behind them on the stream.
  virtual void release(int i, backend::Backend& user) const noexcept = 0;
};

/// A fetched block, released at the end of its scope.
class HeldBlock {
 public:
  HeldBlock(const BlockStore& store, int i, backend::Backend& user)
      : store_(store), user_(user), i_(i), weights_(store.fetch(i, user)) {}
  ~HeldBlock() { store_.release(i_, user_); }
  HeldBlock(const HeldBlock&) = delete;
  HeldBlock& operator=(const HeldBlock&) = delete;
  const BlockWeights& operator*() const noexcept { return weights_; }

 private:
  const BlockStore& store_;
  backend::Backend& user_;
  int i_;
  const BlockWeights& weights_;
};

/// What runs a forward pass: one per replica, used on its thread.
struct Execution {
  backend::Backend& backend;
  Arena& arena;
  parallel::Communicator& comm;
  Precision precision;
};

/// The rows of a batch: first `prefix` rows that every sequence shares, then the sequences' own rows, packed.
struct Layout {
  std::int64_t prefix = 0;
  backend::Sequences own;  ///< rows counted from the end of the prefix
  std::int64_t rows() const noexcept { return prefix + own.rows; }
  /// Per sequence the row that pooling reads, counted from the first row; null: every sequence's first.
  const std::int32_t* pooled = nullptr;
};

/// Activations of one batch, taken from the arena once and reused by every block.
struct TowerState {
  View x;          // residual [M, D]
  View h;          // activation [M, D]
  View wide;       // activation, elements: [M, 3 D] of q, k, v, then the MLP's middle, of many rows in pieces
  View selected;   // residual [count, D]: the rows that pooling reads
  View pooled;     // f32 [count, D]
  View projected;  // f32 [count, P]
};
/// least_wide: bytes that `wide` has at least, for whoever uses it before the first block.
TowerState take_state(Arena& arena, const TowerConfig& config, const backend::ComputeTypes& types, std::int64_t rows,
                      std::int64_t count, int embed_dim, std::size_t least_wide = 0);

/// Bytes that the backend takes for itself while it computes at most so many rows, beside the arena: more rows never
/// take less.
std::size_t backend_bytes(const backend::Backend& backend, Precision precision, const TowerConfig& config,
                          std::int64_t rows);

/// Called after every block with its output, for comparing with a reference: x [M, D], or [count, D] after the last.
using Observer = std::function<void(int block, ConstView x)>;

/// x -> blocks -> state.selected: every block over all rows but the last, which computes only what pooling reads.
void run_blocks(Execution& ex, const TowerConfig& config, const BlockStore& blocks, const Layout& layout, bool causal,
                TowerState& state, const Observer& observer = {});

}  // namespace tandem::model
