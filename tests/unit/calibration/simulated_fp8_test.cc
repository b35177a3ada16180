// fp8 in front of a backend that only has fp32, against the definition in plain loops.
#include "calibration/simulated_fp8.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "backend/cpu/cpu_backend.h"
#include "backend/reference/reference_backend.h"
#include "calibration/passes.h"
#include "unit/calibration/outlier_model.h"

namespace tandem::calibration {
namespace {

Vectors vectors(backend::Backend& backend, const model::EightBit* choices, Precision precision) {
  const model::ModelFiles files = test::outlier_files({});
  model::LoadOptions load;
  load.precision = precision, load.eight_bit = choices;
  const model::Model model = model::load_model(files, backend, load);
  return embed(backend, model, test::seeded_inputs(files.config, 3, 3), 2, [](std::size_t) {});
}

float largest_difference(const Vectors& a, const Vectors& b) {
  float most = 0;
  for (const auto& [x, y] : {std::pair{&a.images, &b.images}, std::pair{&a.texts, &b.texts}}) {
    EXPECT_EQ(x->size(), y->size());
    for (std::size_t i = 0; i < x->size(); ++i) most = std::max(most, std::abs((*x)[i] - (*y)[i]));
  }
  return most;
}

TEST(SimulatedFp8, ComputesWhatTheDefinitionSays) {
  const auto reference = backend::make_reference_backend();
  const auto plain = backend::make_reference_backend();
  SimulatedFp8 simulated(*plain);
  const model::Config c = test::outlier_config();
  model::EightBit choices(c, {"vision.blocks.2.*"});
  choices.set(c, "vision.blocks.1.fc2", {false, 0.004F, {}});
  choices.set(c, "text.blocks.0.out", {false, 0.002F, {}});
  const Vectors want = vectors(*reference, &choices, Precision::fp8);
  // Sums in another order, rounded at other places, now and then fall on the other side of a step.
  EXPECT_LT(largest_difference(vectors(simulated, &choices, Precision::fp8), want), 1e-3F);
  EXPECT_GT(largest_difference(vectors(*reference, &choices, Precision::fp32), want), 1e-3F);
}

TEST(SimulatedFp8, OnAProcessorToo) {
  const auto reference = backend::make_reference_backend();
  const auto cpu = backend::make_cpu_backend({1, false, "", {}, 0});
  SimulatedFp8 simulated(*cpu);
  EXPECT_LT(
      largest_difference(vectors(simulated, nullptr, Precision::fp8), vectors(*reference, nullptr, Precision::fp8)),
      2e-2F);
}

TEST(SimulatedFp8, KeptLayersAndOtherPrecisionsAreTheBackends) {
  const auto reference = backend::make_reference_backend();
  SimulatedFp8 simulated(*reference);
  const model::EightBit all(test::outlier_config(), {"*"});
  const Vectors want = vectors(*reference, nullptr, Precision::fp32);
  EXPECT_EQ(largest_difference(vectors(simulated, &all, Precision::fp8), want), 0);
  EXPECT_EQ(largest_difference(vectors(simulated, nullptr, Precision::fp32), want), 0);
}

}  // namespace
}  // namespace tandem::calibration
