// The one table of weights: every tensor of a CLIP model with its canonical name, shape, and how it splits over ranks.
// The loader, sharding, ONNX export and tests walk this table; checkpoint layouts only map its names to theirs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/files.h"
#include "tensor/tensor.h"

namespace tandem::model {

/// How tensor parallelism splits a weight.
enum class Shard : std::uint8_t { replicated, rows, columns, heads /* rows of q, k and v, by head */ };

struct WeightSpec {
  std::string name;  ///< canonical: "vision.blocks.5.attn.qkv.weight"
  Shape shape;       ///< linear weights are [outputs, inputs]
  Shard shard = Shard::replicated;
  bool optional = false;
};

/// Canonical names. Blocks: ln_1.{weight,bias}, attn.qkv.{weight,bias} [3D, D] (q, k, v stacked), attn.out.{…},
/// ln_2.{…}, mlp.fc1.{…}, mlp.fc2.{…}, under "vision.blocks.N." and "text.blocks.N.". Besides:
/// vision.{patch_embed.weight [D,3,P,P], patch_embed.bias (optional), class_embedding [D], position_embedding [T,D],
/// ln_pre.{…}, ln_post.{…}, projection [P,D]}, text.{token_embedding [V,D], position_embedding [L,D], ln_final.{…},
/// projection [P,D]}, logit_scale [1].
std::vector<WeightSpec> weight_table(const Config& config);

/// Reads canonical tensors out of a checkpoint in any supported layout: maps names, stacks q, k and v where they are
/// apart, transposes OpenCLIP's projections, ignores position_ids. Checks every shape against the table and every
/// value finite; an error names the tensor, what was found and what was expected. read(), has() and release() may be
/// called from several threads.
class WeightReader {
 public:
  /// Finds out whose names the checkpoint uses, and what stands before them. Throws bad_data for tensors of a tower
  /// that the configuration does not know: they would change what is computed. Keeps references to both arguments.
  WeightReader(const Config& config, WeightSource& source);
  /// A dense host tensor in the stored type (f32, f16 or bf16), in the table's shape; `owned` keeps memory alive when
  /// the tensor had to be assembled. The view is valid until release(spec).
  struct Loaded {
    ConstView view;
    Tensor owned;
  };
  Loaded read(const WeightSpec& spec);
  /// What read() would throw but for the values: the tensor is missing, or has another shape or type. Reads none of it.
  void check(const WeightSpec& spec) const;
  bool has(const WeightSpec& spec) const;
  void release(const WeightSpec& spec);

 private:
  enum class Names : std::uint8_t { canonical, huggingface, openclip, openclip_custom_text };
  struct Stored {
    std::vector<std::string> parts;  ///< names in the checkpoint, to be stacked by rows
    bool transposed = false;
  };
  void detect();
  void check_nothing_left() const;
  Stored stored(const std::string& canonical) const;
  Shape stored_shape(const WeightSpec& spec, const Stored& where) const;

  const Config& config_;
  WeightSource& source_;
  Names names_ = Names::canonical;
  std::string prefix_;  ///< "", or what stands before every name of this checkpoint ("model.", "module.")
};

}  // namespace tandem::model
