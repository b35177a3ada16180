// How a weight divides over the ranks of a tensor-parallel group, as the Shard column of the table says.
#pragma once

#include "model/weights.h"

namespace tandem::model {

/// The shape of every rank's part. rows: outputs divided; columns: inputs divided; heads: the outputs of q, of k and of
/// v divided each, so that a rank has whole heads. Biases divide as the rows of their weights do, or stay whole.
Shape shard_shape(const WeightSpec& spec, int ranks);

/// Rank's part of a whole weight, dense: `whole` itself where nothing is divided, otherwise a copy.
WeightReader::Loaded shard(WeightReader::Loaded whole, Shard how, int rank, int ranks);

/// Throws invalid_argument when the heads or the MLP's columns of a tower do not divide over the ranks evenly.
void check_ranks(const Config& config, int rank, int ranks);

}  // namespace tandem::model
