// Every value of the configuration's enumerations that only other families have is refused by name.
#include <gtest/gtest.h>

#include <functional>

#include "backend/reference/reference_backend.h"
#include "unit/model/small_model.h"

namespace tandem::model {
namespace {

struct Case {
  const char* message;
  std::function<void(Config&)> change;
};

TEST(Family, WhatIsNotComputedIsRefusedByName) {
  EXPECT_NO_THROW(check_family(test::small_config()));
  const Case cases[] = {
      {"pictures pooled by the mean", [](Config& c) { c.vision.pooling = Pooling::mean; }},
      {"pictures pooled by attention", [](Config& c) { c.vision.pooling = Pooling::map; }},
      {"without a class token", [](Config& c) { c.vision.class_token = false; }},
      {"without a norm before its blocks", [](Config& c) { c.vision.pre_norm = false; }},
      {"bias on the vision projection", [](Config& c) { c.vision.projection_bias = true; }},
      {"texts pooled by the last token", [](Config& c) { c.text.pooling = Pooling::last; }},
      {"texts pooled by the class token", [](Config& c) { c.text.pooling = Pooling::cls; }},
      {"without a causal mask", [](Config& c) { c.text.mask = TextMask::full; }},
      {"attend to their padding", [](Config& c) { c.text.padding = TextPadding::attended; }},
      {"bias on the text projection", [](Config& c) { c.text.projection_bias = true; }},
      {"sigmoid scores (with the bias -10)", [](Config& c) { c.score = Score::sigmoid, c.logit_bias = -10; }},
  };
  auto backend = backend::make_reference_backend();
  for (const Case& one : cases) {
    ModelFiles files = test::small_files();
    one.change(files.config);
    bool read = false;
    files.open_weights = [&]() -> std::unique_ptr<WeightSource> { return read = true, nullptr; };
    try {
      load_model(files, *backend, {});
      ADD_FAILURE() << one.message << " was loaded";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Code::unsupported);
      EXPECT_NE(std::string(e.what()).find(one.message), std::string::npos) << e.what();
    }
    EXPECT_FALSE(read);
  }
}

TEST(Family, SameNetworkSeesWhatWeightsDependOn) {
  const Config a = test::small_config();
  Config b = a;
  b.name = "another name";
  EXPECT_TRUE(same_network(a, b));
  for (const auto& change : std::initializer_list<std::function<void(Config&)>>{
           [](Config& c) { c.vision.layers = 5; }, [](Config& c) { c.text.norm_eps = 1e-6F; },
           [](Config& c) { c.preprocess.mean[1] = 0.5F; }, [](Config& c) { c.preprocess.std[2] = 0.5F; },
           [](Config& c) { c.preprocess.rescale = 1; },
           [](Config& c) { c.text.pool_rule = text::PoolRule::largest_id; },
           [](Config& c) { c.vision.activation = backend::ActivationFn::gelu_tanh; },
           [](Config& c) { c.embed_dim = 25; }, [](Config& c) { c.logit_bias = 1; }}) {
    Config changed = a;
    change(changed);
    EXPECT_FALSE(same_network(a, changed));
  }
}

}  // namespace
}  // namespace tandem::model
