// A model on one backend: its configuration and prepared weights, immutable once loaded and shared by replicas.
#pragma once

#include <memory>
#include <optional>

#include "base/thread_pool.h"
#include "model/eight_bit.h"
#include "model/files.h"
#include "model/towers.h"

namespace tandem::model {

struct LoadOptions {
  Precision precision = Precision::fp32;  ///< resolved by the backend
  bool vision = true, text = true;
  /// Tensors that may be prepared at the same time: by the caller, and by threads of `pool` as it has them to spare.
  /// What is in preparation stands in memory twice.
  int threads = 1;
  ThreadPool* pool = nullptr;
  /// Which part of every weight, as the Shard column of the table divides it over a tensor-parallel group.
  int tensor_rank = 0, tensor_ranks = 1;
  /// In int8 and fp8: how each layer computes. Null: all in eight bits, with scales from the data. Read while loading.
  const EightBit* eight_bit = nullptr;
};

struct Model {
  Config config;
  Precision precision = Precision::fp32;
  std::optional<VisionWeights> vision;
  std::optional<TextWeights> text;
  float logit_scale = 1;         ///< multiplies cosines: exp of the stored value
  std::size_t parameters = 0;    ///< of the loaded towers
  std::size_t weight_bytes = 0;  ///< as stored by the backend: of this rank's part
  std::string hash;              ///< of the checkpoint, for provenance
};

/// Reads, checks and prepares every weight, releasing each from memory as soon as the backend has its own form.
/// All shapes are checked before any weight is read. Returns when the device has everything: from then on any replica
/// of that device may use the weights. Throws bad_data naming the tensor, what was found and what was expected;
/// unsupported for a family that is not computed; invalid_argument where heads do not divide over the ranks.
Model load_model(const ModelFiles& files, backend::Backend& backend, const LoadOptions& options);
/// The same from weights that are open already: files.open_weights()'s.
Model load_model(const ModelFiles& files, WeightSource& source, backend::Backend& backend, const LoadOptions& options);

/// Bytes that the weights of a load will take on the device, from the table alone: exact but for padding, scales, and
/// what a backend keeps more precisely than the precision asks (a GPU in tf32: queries, keys and values in half as much
/// again).
std::size_t expected_weight_bytes(const Config& config, const backend::Backend& backend, const LoadOptions& options);

}  // namespace tandem::model
