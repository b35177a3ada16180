// The two towers: pixels or tokens in, one vector per item out (Radford et al. 2021).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "model/transformer.h"

namespace tandem::model {

struct VisionWeights {
  std::unique_ptr<backend::PreparedWeight> patch_embed;  // [D, 3 P P], normalisation folded in
  Tensor class_embedding;                                // [D]
  Tensor position;                                       // [T, D]
  Norm ln_pre, ln_post;
  std::unique_ptr<BlockStore> blocks;
  std::unique_ptr<backend::PreparedWeight> projection;  // [E, D]
};

struct TextWeights {
  Tensor token;     // [V, D]
  Tensor position;  // [L, D]
  std::unique_ptr<BlockStore> blocks;
  Norm ln_final;
  std::unique_ptr<backend::PreparedWeight> projection;  // [E, D]
};

/// Texts of one batch, packed: a prefix that all share stands once, then every text's own tokens up to the row that
/// pooling reads. In a causal tower nothing after that row, and nothing of another text, can change it.
struct PackedTexts {
  std::int32_t prefix = 0;
  std::vector<std::int32_t> ids, positions;  // [rows]
  std::vector<std::int32_t> offsets;         // [count + 1], counted from the end of the prefix
  std::vector<std::int32_t> pooled;          // [count], counted from the first row
  std::int32_t longest = 0;
  std::int64_t count() const noexcept { return static_cast<std::int64_t>(pooled.size()); }
  std::int64_t rows() const noexcept { return static_cast<std::int64_t>(ids.size()); }  ///< with padding
};

/// The position whose state is the text's: the first largest id, or the first end token (0 when there is none).
std::size_t pooled_position(const TextConfig& config, std::span<const std::int32_t> ids);

/// Packs texts (ids with start and end, no padding, each at most context_length long) into `out`, whose memory is
/// reused. With `share_prefix`, the longest common beginning is computed once.
void pack_texts(const TextConfig& config, std::span<const std::span<const std::int32_t>> texts, bool share_prefix,
                PackedTexts& out);

/// Batches up to these sizes are over before the host could issue them one operation after another: a backend that
/// records passes has them recorded. Larger ones keep the device busy anyway.
constexpr std::int64_t kReplayedImages = 64;
constexpr std::int64_t kReplayedTexts = 16;

/// Rounds a small batch's rows (to at most `most_rows`) and longest text up, so that its pass is one that has been
/// recorded. The new rows belong to no text: nobody reads what is computed for them.
void pad_texts(const TextConfig& config, std::int64_t most_rows, PackedTexts& texts);

/// Where a pass left its vectors: views into the arena, valid until the next pass.
struct TowerOutput {
  ConstView pooled;     // f32 [count, D], after the final norm
  ConstView projected;  // f32 [count, E], unit length when asked
};

struct PassOptions {
  bool project = true;
  bool normalize = true;
  /// For comparing with a reference: "embed" (-1) after embedding, then every block.
  Observer observer;
};

/// pixels: u8 [B, S, S, 3] in the backend's memory.
TowerOutput encode_images(Execution& ex, const VisionConfig& config, const VisionWeights& weights, int embed_dim,
                          ConstView pixels, const PassOptions& options);
TowerOutput encode_texts(Execution& ex, const TextConfig& config, const TextWeights& weights, int embed_dim,
                         const PackedTexts& texts, const PassOptions& options);

/// Bytes that an arena needs for a batch: the same takes, measured.
std::size_t plan_images(const backend::Backend& backend, Precision precision, const VisionConfig& config, int embed_dim,
                        std::int64_t batch);
std::size_t plan_texts(const backend::Backend& backend, Precision precision, const TextConfig& config, int embed_dim,
                       std::int64_t count, std::int64_t rows);

}  // namespace tandem::model
