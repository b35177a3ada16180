// A model with outliers fails in eight bits; calibration finds the layers, and what it says of them is true.
#include "calibration/calibrate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "backend/cpu/cpu_backend.h"
#include "backend/reference/reference_backend.h"
#include "calibration/collector.h"
#include "calibration/simulated_fp8.h"
#include "tandem/error.h"
#include "unit/calibration/outlier_model.h"
#include "verify/agreement.h"

namespace tandem::calibration {
namespace {

using test::outlier_files;
using test::seeded_inputs;

Options options(Precision precision = Precision::int8) {
  Options o;
  o.precision = precision, o.batch = 8, o.sensitivity_samples = 8;
  return o;
}

std::unique_ptr<backend::Backend> cpu() {
  return backend::make_cpu_backend({2, false, "", {}, 0});
}

std::set<std::string> kept(const model::Calibration& c) {
  std::set<std::string> names;
  for (const auto& [name, layer] : c.layers) {
    if (layer.choice.keep) names.insert(name);
  }
  return names;
}

/// Of a model that is loaded with these choices, as anybody would load it.
verify::Closeness loaded(const model::ModelFiles& files, backend::Backend& backend, const Inputs& inputs,
                         const model::EightBit& choices, Precision precision = Precision::int8) {
  const auto run = [&](Precision p) {
    model::LoadOptions load;
    load.precision = p, load.eight_bit = &choices;
    const model::Model model = model::load_model(files, backend, load);
    return embed(backend, model, inputs, 8, [](std::size_t) {}).images;
  };
  return verify::closeness(run(precision), run(Precision::fp32), static_cast<std::size_t>(files.config.embed_dim));
}

TEST(Calibrate, FindsTheLayersWithMassiveActivationsAndKeepsThemBack) {
  const auto backend = cpu();
  const auto files = outlier_files({300, 1});
  const Inputs inputs = seeded_inputs(files.config, 40, 12), others = seeded_inputs(files.config, 90, 0);
  const Options o = options();
  // The largest magnitude as the scale, of every row and of every tensor, is not enough.
  const model::Calibration found = calibrate(files, *backend, inputs, o);
  EXPECT_LT(found.plain_images.min_cosine, o.target_worst);
  EXPECT_LT(found.plain_images.mean_cosine, o.target_mean);
  EXPECT_TRUE(kept(found).contains("vision.blocks.5.fc2"));
  EXPECT_TRUE(kept(found).contains("vision.blocks.6.fc2"));
  EXPECT_TRUE(found.reached);
  EXPECT_GE(found.images.min_cosine, o.target_worst);
  EXPECT_GE(found.images.mean_cosine, o.target_mean);
  EXPECT_GE(found.eight_bit_share, 0.9);
  EXPECT_LT(found.eight_bit_share, 1);
  // What it expects is what a loader gets, and holds for pictures that it has not seen.
  const auto again = loaded(files, *backend, inputs, found.choices(files.config, true));
  EXPECT_NEAR(again.mean_cosine, found.images.mean_cosine, 1e-6);
  EXPECT_NEAR(again.min_cosine, found.images.min_cosine, 1e-6);
  EXPECT_GE(loaded(files, *backend, others, found.choices(files.config, true)).mean_cosine, o.target_mean);
  EXPECT_LT(loaded(files, *backend, others, found.choices(files.config, false)).mean_cosine, o.target_mean);
}

TEST(Calibrate, NothingIsKeptBackOfAModelThatNeedsNothing) {
  const auto backend = cpu();
  const auto files = outlier_files({});
  Options o = options();
  o.target_worst = 0.9, o.target_mean = 0.95;
  const model::Calibration found = calibrate(files, *backend, seeded_inputs(files.config, 12, 8), o);
  EXPECT_TRUE(found.reached);
  EXPECT_TRUE(kept(found).empty());
  EXPECT_EQ(found.eight_bit_share, 1);
  EXPECT_EQ(found.layers.size(), model::eight_bit_layers(files.config).size());
}

TEST(Calibrate, AtMostAsMuchIsKeptBackAsAllowed) {
  const auto backend = cpu();
  const auto files = outlier_files({300, 1});
  const Inputs inputs = seeded_inputs(files.config, 16, 0);
  Options o = options();
  o.most_kept = 0.03;  // one fc2 of twelve blocks, not two
  const model::Calibration found = calibrate(files, *backend, inputs, o);
  EXPECT_FALSE(found.reached);
  EXPECT_GE(found.eight_bit_share, 0.97);
  EXPECT_FALSE(kept(found).contains("vision.blocks.5.fc2") && kept(found).contains("vision.blocks.6.fc2"));
  o.most_kept = 0;
  EXPECT_TRUE(kept(calibrate(files, *backend, inputs, o)).empty());
}

TEST(Calibrate, MigrationMendsWhatANormGives) {
  const auto backend = cpu();
  const auto files = outlier_files({1, 100});
  const Inputs inputs = seeded_inputs(files.config, 24, 6);
  Options o = options();
  o.most_kept = 0;
  const model::Calibration without = calibrate(files, *backend, inputs, o);
  o.migration = 0.5;
  const model::Calibration with = calibrate(files, *backend, inputs, o);
  EXPECT_GT(with.images.mean_cosine, without.images.mean_cosine);
  EXPECT_LT(1 - with.images.mean_cosine, 0.5 * (1 - without.images.mean_cosine));
  EXPECT_EQ(with.layers.at("vision.blocks.5.fc1").choice.migration.size(), 48U);
  EXPECT_TRUE(with.layers.at("vision.blocks.5.fc2").choice.migration.empty());
  const auto again = loaded(files, *backend, inputs, with.choices(files.config, true));
  EXPECT_NEAR(again.mean_cosine, with.images.mean_cosine, 1e-6);
}

TEST(Calibrate, GivesTheSameForTheSame) {
  const auto backend = cpu();
  const auto files = outlier_files({100, 100});
  const Inputs inputs = seeded_inputs(files.config, 10, 6);
  Options o = options();
  o.migration = 0.6;
  const std::string first = model::calibration_text(calibrate(files, *backend, inputs, o));
  const auto other = backend::make_cpu_backend({1, false, "", {}, 0});
  EXPECT_EQ(model::calibration_text(calibrate(files, *other, inputs, o)), first);
}

TEST(Calibrate, Fp8HasAScaleForEveryTensorThatNoNormGives) {
  const auto backend = cpu();
  SimulatedFp8 simulated(*backend);
  const auto files = outlier_files({300, 1});
  const Inputs inputs = seeded_inputs(files.config, 12, 6);
  const model::Calibration found = calibrate(files, simulated, inputs, options(Precision::fp8));
  for (const auto& [name, layer] : found.layers) {
    if (layer.choice.keep) continue;
    const bool fixed = name.ends_with(".out") || name.ends_with(".fc2");
    EXPECT_EQ(layer.choice.input_scale > 0, fixed) << name;
    EXPECT_LT(layer.error, 0.05) << name;  // an eighth of a step of 2^-3 at most, and less on average
  }
  const auto again = loaded(files, simulated, inputs, found.choices(files.config, true), Precision::fp8);
  EXPECT_NEAR(again.mean_cosine, found.images.mean_cosine, 1e-6);
}

TEST(Calibrate, AveragesLeaveWhatIsRoundedWhereThatIsBetter) {
  const auto backend = cpu();
  auto files = outlier_files({});
  // Norms whose beta is large: what they give is a constant and a little around it.
  files.open_weights = [config = files.config] {
    auto source = std::make_unique<test::OutlierSource>(config, test::Outliers{});
    for (const std::string& name : source->names()) {
      if (name.find(".blocks.") == std::string::npos || name.find(".ln_") == std::string::npos) continue;
      const ConstView view = source->get(name);
      auto* values = const_cast<float*>(view.as<float>());
      for (std::int64_t i = 0; i < view.shape.elements(); ++i) values[i] += name.ends_with(".bias") ? 8.0F : 0.0F;
    }
    return source;
  };
  const Inputs inputs = seeded_inputs(files.config, 16, 8);
  Options o = options();
  o.most_kept = 0;
  const model::Calibration found = calibrate(files, *backend, inputs, o);
  EXPECT_LT(1 - found.images.mean_cosine, 0.75 * (1 - found.plain_images.mean_cosine));
  const auto& centre = found.layers.at("vision.blocks.3.fc1").choice.centre;
  ASSERT_EQ(centre.size(), 48U);
  for (const float average : centre) EXPECT_NEAR(average, 8, 3);
  EXPECT_TRUE(found.layers.at("vision.blocks.3.fc2").choice.centre.empty());
  const auto again = loaded(files, *backend, inputs, found.choices(files.config, true));
  EXPECT_NEAR(again.mean_cosine, found.images.mean_cosine, 1e-6);
}

TEST(Collector, SeesWhatEveryLayerReads) {
  const auto backend = backend::make_reference_backend();
  const auto files = outlier_files({300, 1});
  const model::Model model = model::load_model(files, *backend, {});
  Collector collector(*backend, model, Precision::int8);
  const Inputs inputs = seeded_inputs(files.config, 2, 2);
  const Vectors watched = embed(collector, model, inputs, 2, [](std::size_t) {});
  const Vectors alone = embed(*backend, model, inputs, 2, [](std::size_t) {});
  EXPECT_EQ(watched.images, alone.images);
  EXPECT_EQ(watched.texts, alone.texts);
  const auto& seen = collector.layers();
  EXPECT_EQ(seen.size(), model::eight_bit_layers(files.config).size());
  const LayerInputs& massive = seen.at("vision.blocks.5.fc2");
  EXPECT_EQ(massive.channels.size(), 192U);
  EXPECT_GT(massive.channels[17], 250);
  EXPECT_LT(massive.channels[18], 20);
  EXPECT_EQ(massive.values.top(), *std::max_element(massive.channels.begin(), massive.channels.end()));
  // 17 rows a picture; the last block's fc1 is for the pooled rows alone, but its keys and values are for all.
  EXPECT_EQ(seen.at("vision.blocks.0.fc1").multiply_adds, 2.0 * 17 * 48 * 192);
  EXPECT_EQ(seen.at("vision.blocks.11.fc1").multiply_adds, 2.0 * 48 * 192);
  EXPECT_EQ(seen.at("vision.blocks.11.qkv").multiply_adds, 2.0 * 17 * 48 * 96 + 2.0 * 48 * 48);
}

TEST(Calibrate, RefusesWhatItCannotDo) {
  const auto backend = cpu();
  const auto files = outlier_files({});
  const auto code = [&](const Inputs& inputs, const Options& o) {
    try {
      calibrate(files, *backend, inputs, o);
    } catch (const Error& e) {
      return e.code();
    }
    return Code::internal;
  };
  const Inputs some = seeded_inputs(files.config, 2, 0);
  EXPECT_EQ(code({}, options()), Code::invalid_argument);
  EXPECT_EQ(code(some, options(Precision::bf16)), Code::invalid_argument);
  Options o = options();
  o.migration = 1.5;
  EXPECT_EQ(code(some, o), Code::invalid_argument);
  o = options(), o.batch = 0;
  EXPECT_EQ(code(some, o), Code::invalid_argument);
  Inputs wrong = some;
  wrong.pictures[1].resize(5);
  EXPECT_EQ(code(wrong, options()), Code::invalid_argument);
}

}  // namespace
}  // namespace tandem::calibration
