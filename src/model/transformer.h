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
struct BlockWeights {
  Norm ln_1, ln_2;
  Linear qkv;    // [3D, D], all blocks but the last
  Linear q, kv;  // [D, D] and [2D, D], the last block
  Linear out, fc1, fc2;
};

/// Where blocks come from: resident here; a subclass may bring them in from elsewhere while the one before is computed.
class BlockStore {
 public:
  virtual ~BlockStore() = default;
  virtual int count() const = 0;
  virtual const BlockWeights& block(int i) const = 0;
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
  View wide;       // activation, room for [M, max(4 D, mlp)]: q, k, v and the attended values, then the MLP's middle
  View selected;   // residual [count, D]: the rows that pooling reads
  View pooled;     // f32 [count, D]
  View projected;  // f32 [count, P]
};
TowerState take_state(Arena& arena, const TowerConfig& config, const backend::ComputeTypes& types, std::int64_t rows,
                      std::int64_t count, int embed_dim);

/// Called after every block with its output, for comparing with a reference: x [M, D], or [count, D] after the last.
using Observer = std::function<void(int block, ConstView x)>;

/// x -> blocks -> state.selected: every block over all rows but the last, which computes only what pooling reads.
void run_blocks(Execution& ex, const TowerConfig& config, const BlockStore& blocks, const Layout& layout, bool causal,
                TowerState& state, const Observer& observer = {});

}  // namespace tandem::model
