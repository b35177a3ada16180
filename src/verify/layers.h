// Where two ways of computing a model part: the error of every block's output, and of every layer by itself.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "model/model.h"

namespace tandem::verify {

/// A loaded model on the backend that loaded it; its blocks stay in memory.
struct Side {
  backend::Backend& backend;
  const model::Model& model;
};

/// What both compute: pixels u8 [S, S, 3] of each picture, ids of each text with start and end. A kind without inputs
/// is left out.
struct LayerInputs {
  std::vector<std::vector<std::uint8_t>> pictures;
  std::vector<std::vector<std::int32_t>> texts;
};

/// How far an output is from the one it is compared with, over all rows.
struct LayerError {
  std::string layer;          ///< "vision.blocks.5.fc2"; of a block's output "vision.blocks.5"
  std::string kind;           ///< "block", or a layer's: "qkv", "out", "fc1", "fc2", "embedding", "norm", "projection"
  double relative_error = 0;  ///< |got - want| / |want|
  double cosine = 1;          ///< of all of got with all of want
  double gain = 1;            ///< got's share along want: 2 where a scale is doubled, 1 where there is only noise
  std::int64_t worst_channel = 0;  ///< of the outputs that are no smaller than a third of the usual one
  double worst_channel_error = 0;  ///< that one's relative error
  std::string suspicion;           ///< why the layer's weights or scales cannot be right; empty: they may be
};

/// Blocks: each side computes by itself, so that errors add up from block to block. Layers: `got` is given the inputs
/// that `want` computed, so that each has its own error alone. qkv and fc1 have the norm in front inside, fc1 the
/// activation behind; out and fc2 are taken without what they are added to. In the order of the pass, a block's layers
/// before its output. Throws invalid_argument where the two are not the same network.
std::vector<LayerError> profile_layers(const Side& got, const Side& want, const LayerInputs& inputs);

/// Sets `suspicion` of layers that err more than the precisions explain and more than their likes do: the error itself,
/// a gain, or one channel. Blocks never are: an error of one is in all behind it.
void find_suspects(std::vector<LayerError>& layers, Precision got, Precision want);

}  // namespace tandem::verify
