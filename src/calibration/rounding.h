// Weights in eight bits that are chosen together, so that what one rounds away the next ones make up for.
#pragma once

#include <span>
#include <vector>

#include "tandem/types.h"

namespace tandem::calibration {

/// A weight [outputs, inputs] in eight bits: multiples of its output's step, or in fp8 E4M3 numbers of it.
struct Rounding {
  std::vector<float> values;
  std::vector<float> steps;  ///< [outputs]: the largest magnitude of the model's own / 127 or 448
};

/// Every element the nearest there is. `weight` [outputs, inputs].
Rounding round_to_nearest(Precision precision, std::span<const float> weight, std::size_t outputs);

/// GPTQ (Frantar et al. 2023): makes the sum over the layer's input rows x of |W x - Q x|^2 small. Elements are rounded
/// one input after another, those of the largest inputs first, and the error that is made so far is spread over the
/// inputs that follow. With gram = sum of x x^T = R R^T, R upper triangular, that sum of squares is |(W - Q) R|^2,
/// whose k-th column holds the errors of the first k inputs: each is rounded so that its own column is least (the same
/// numbers, Chee et al. 2023, theorem 6, without inverting the gram matrix). gram [inputs, inputs]; a hundredth of the
/// mean of its diagonal is added to the diagonal. Time grows with inputs^3 + outputs inputs^2, memory with inputs^2
/// doubles. Throws internal where gram is not one of finite rows.
Rounding round_for_inputs(Precision precision, std::span<const float> weight, std::size_t outputs,
                          std::span<const float> gram);

/// The sum of |W x - Q x|^2 over rows x [rows, inputs].
double output_error(std::span<const float> weight, std::span<const float> rounded, std::size_t outputs,
                    std::span<const float> rows);

/// gram += sum of x x^T over rows x [rows, inputs]; only its lower triangle is right until complete_gram().
void add_to_gram(std::span<const float> rows, std::size_t inputs, std::vector<float>& gram);
void complete_gram(std::vector<float>& gram, std::size_t inputs);

}  // namespace tandem::calibration
