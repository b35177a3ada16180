// A backend that measures another computes what the other does, and says of which stage each operation is.
#include "backend/timed_backend.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>

#include "backend/reference/reference_backend.h"

namespace tandem::backend {
namespace {

class TimedBackendTest : public ::testing::Test {
 protected:
  static constexpr std::int64_t kRows = 3, kWidth = 4;

  Tensor matrix(std::int64_t rows, std::int64_t columns) {
    Tensor out = host_tensor(DType::f32, {rows, columns});
    for (std::int64_t i = 0; i < rows * columns; ++i) {
      out.view().as<float>()[i] = 0.25F * static_cast<float>((3 * i + rows) % 7 - 3);
    }
    return out;
  }
  std::map<std::string, int> operations() {
    std::map<std::string, int> out;
    for (const auto& stage : timed.take_stages()) {
      EXPECT_GE(stage.milliseconds, 0) << stage.name;
      out[stage.name] = stage.operations;
    }
    return out;
  }

  std::unique_ptr<Backend> plain = make_reference_backend();
  TimedBackend timed{make_reference_backend()};
};

TEST_F(TimedBackendTest, NamesLayersByWhatIsFusedToThem) {
  const Tensor x = matrix(kRows, kWidth), wide = matrix(kRows, 2 * kWidth), square = matrix(kWidth, kWidth);
  const auto same = timed.prepare_linear(square.view(), Precision::fp32, {});
  const auto up = timed.prepare_linear(matrix(2 * kWidth, kWidth).view(), Precision::fp32, {});
  const auto down = timed.prepare_linear(matrix(kWidth, 2 * kWidth).view(), Precision::fp32, {});
  const Tensor out = matrix(kRows, kWidth), out_wide = matrix(kRows, 2 * kWidth);
  timed.linear({x.view(), same.get(), {}, ActivationFn::none, {}, {out.view(), {}}});
  timed.linear({x.view(), same.get(), {}, ActivationFn::none, out.view(), {out.view(), {}}});
  timed.linear({x.view(), up.get(), {}, ActivationFn::quick_gelu, {}, {out_wide.view(), {}}});
  timed.linear({wide.view(), down.get(), {}, ActivationFn::none, out.view(), {out.view(), {}}});
  timed.linear({wide.view(), down.get(), {}, ActivationFn::none, out.view(), {out.view(), {}}});
  const std::map<std::string, int> expected{
      {"q, k, v", 1}, {"attention output", 1}, {"fc1 and activation", 1}, {"fc2", 2}};
  EXPECT_EQ(operations(), expected);
  EXPECT_TRUE(operations().empty()) << "what was taken is not told again";
}

TEST_F(TimedBackendTest, ComputesWhatTheOtherDoes) {
  const Tensor x = matrix(kRows, kWidth), weight = matrix(kWidth, kWidth);
  Tensor results[] = {matrix(kRows, kWidth), matrix(kRows, kWidth)};
  int i = 0;
  for (Backend* backend : {plain.get(), static_cast<Backend*>(&timed)}) {
    const Tensor& out = results[i++];
    const auto w = backend->prepare_linear(weight.view(), Precision::fp32);
    const auto p = backend->prepare_projection(weight.view());
    const Tensor gamma = backend->prepare_vector({weight.view().data, DType::f32, {kWidth}});
    backend->layer_norm({x.view(), gamma.view(), gamma.view(), 1e-5F, {out.view(), {}}});
    backend->linear({x.view(), w.get(), {}, ActivationFn::gelu_erf, out.view(), {out.view(), {}}});
    backend->project({out.view(), p.get(), true, out.view()});
  }
  EXPECT_EQ(std::memcmp(results[0].view().data, results[1].view().data, results[0].bytes()), 0);
  const std::map<std::string, int> expected{{"layer norm", 1}, {"fc1 and activation", 1}, {"projection", 1}};
  EXPECT_EQ(operations(), expected);
}

TEST_F(TimedBackendTest, CopiesBesideTheWorkAreOneStage) {
  const Tensor from = matrix(kRows, kWidth);
  const Buffer there = timed.allocate(from.bytes());
  const View to(there.data(), DType::f32, {kRows, kWidth});
  for (std::int64_t r = 0; r < kRows; ++r) timed.upload_beside(from.view().row_range(r, 1).data, to.row_range(r, 1));
  timed.join_uploads();
  Tensor back = matrix(1, kRows * kWidth);
  timed.download_later(to, back.view().data);
  timed.wait_for(timed.mark());
  EXPECT_EQ(std::memcmp(back.view().data, from.view().data, from.bytes()), 0);
  const std::map<std::string, int> expected{{"copy in", 1}, {"copy out", 1}};
  EXPECT_EQ(operations(), expected);
}

}  // namespace
}  // namespace tandem::backend
