// Rounded weights for the layers of a model, by what they read.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <set>
#include <string>

#include "base/thread_pool.h"
#include "calibration/passes.h"
#include "model/calibration.h"
#include "model/files.h"

namespace tandem::calibration {

struct RoundingOptions {
  Precision precision = Precision::int8;
  std::size_t batch = 8;
  /// Bytes of the sums of products that are held at once: a pass over the inputs fills as many layers' as fit.
  std::size_t memory = std::size_t{1} << 30U;
  int threads = 1;  ///< as LoadOptions
  ThreadPool* pool = nullptr;
};

/// round_for_inputs() of the layers named, where it is better than the nearest. `model` computes on `backend` in fp32.
/// What a layer reads is taken with the averages and factors of `layers`, which must hold all of `names`; of a layer
/// that reads many rows, evenly chosen ones, at least four times as many as it has inputs. An eighth of the inputs is
/// only for telling which of the two roundings is nearer to the model's own weight; where a kind has fewer than eight,
/// all are for both. `row_counts`: rows that a layer reads of all inputs. `watch`: as Watch.
model::RoundedWeights round_layers(const model::ModelFiles& files, backend::Backend& backend, const model::Model& model,
                                   const Inputs& inputs, const std::set<std::string>& names,
                                   const std::map<std::string, model::CalibratedLayer>& layers,
                                   const std::map<std::string, double>& row_counts, const RoundingOptions& options,
                                   const std::function<void(const std::string&, std::size_t, std::size_t)>& watch);

}  // namespace tandem::calibration
