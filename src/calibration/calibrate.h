// What an eight-bit precision needs to know of a model: ranges, factors, and the layers that it should leave alone.
#pragma once

#include <functional>
#include <string>

#include "base/thread_pool.h"
#include "calibration/passes.h"
#include "model/calibration.h"
#include "model/model.h"

namespace tandem::calibration {

struct Options {
  Precision precision = Precision::int8;  ///< int8 or fp8
  double migration = 0;                   ///< SmoothQuant's alpha; 0: nothing is migrated
  /// Of the cosines with fp32, for pictures and for texts each: layers are kept back until both are reached.
  double target_mean = 0.997, target_worst = 0.99;
  double most_kept = 0.1;                ///< of a tower's multiply-adds
  bool round = true;                     ///< weights are rounded for their inputs, where that is better
  std::size_t sensitivity_samples = 32;  ///< pictures, and texts, that a layer's sensitivity is measured on
  std::size_t batch = 8;                 ///< inputs of a pass
  int threads = 1;                       ///< as LoadOptions
  ThreadPool* pool = nullptr;
};

/// What is being done, and how much of it is done. May throw, to stop.
using Watch = std::function<void(const std::string& what, std::size_t done, std::size_t total)>;

/// Computes the inputs in fp32 and notes what every layer reads; chooses the range of each static scale by its error;
/// where it is better, takes the averages out of what norms give, and, where it is asked for too, migrates; rounds
/// weights for what they are multiplied with, again where it is better; then computes in eight bits, and where that
/// misses the target, puts layers back in turn, and keeps back those whose gain is largest, at most as many as allowed.
/// Scales that turn out no better than scales from the data are dropped. `seen`: a tower without inputs keeps the
/// defaults. Equal arguments give equal results. `data` and `against` of the result are left to the caller. Throws what
/// loading throws, and invalid_argument for other precisions, no inputs, and options out of range.
model::Calibration calibrate(const model::ModelFiles& files, backend::Backend& backend, const Inputs& inputs,
                             const Options& options, const Watch& watch = {});

}  // namespace tandem::calibration
