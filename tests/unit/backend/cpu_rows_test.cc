// Row-wise operations of the CPU backend against the reference.
#include <cmath>
#include <limits>
#include <thread>

#include "unit/backend/cpu_support.h"

namespace tandem::backend::test {
namespace {

using tandem::test::tolerance;

class CpuRows : public CpuBackendTest {};

TEST_P(CpuRows, LayerNorm) {
  for (const std::int64_t width : {1, 3, 16, 20, 33, 64, 96, 768, 1024, 1283}) {
    Matrix x(DType::f32, 7, width), gamma(DType::f32, 1, width), beta(DType::f32, 1, width);
    Matrix out(way().type(), 7, width);
    x.fill(1, 3), gamma.fill(2), beta.fill(3);
    reference->layer_norm(
        {x.reference(), gamma.reference_vector(), beta.reference_vector(), 1e-5F, {out.reference(), {}}});
    cpu->layer_norm({x.view(), gamma.host_vector(), beta.host_vector(), 1e-5F, {out.view(), {}}});
    auto t = tolerance(way().type(), 64);
    t.absolute *= 4;
    expect_close(out, t, "width " + std::to_string(width));
  }
}

TEST_P(CpuRows, LayerNormKeepsItsDigitsBesideOutliersAndFarFromZero) {
  Matrix x(DType::f32, 3, 768), gamma(DType::f32, 1, 768), beta(DType::f32, 1, 768), out(DType::f32, 3, 768);
  x.fill(1), gamma.fill(2), beta.fill(3);
  x.at(0, 5) *= 1000, x.at(0, 700) *= 100;
  for (std::int64_t c = 0; c < 768; ++c) x.at(1, c) += 3000;
  for (std::int64_t c = 0; c < 768; ++c) x.at(2, c) *= 1e-4F;
  x.store();
  reference->layer_norm(
      {x.reference(), gamma.reference_vector(), beta.reference_vector(), 1e-5F, {out.reference(), {}}});
  cpu->layer_norm({x.view(), gamma.host_vector(), beta.host_vector(), 1e-5F, {out.view(), {}}});
  // The mean of values near 3000 is rounded to 2^-13 of the spread that remains.
  expect_close(out, {8e-4F, 1e-5F}, "shifted");
  for (std::int64_t c = 0; c < 768; ++c) {
    EXPECT_TRUE(tandem::test::close(out.got(0, c), out.at(0, c), {2e-6F, 4e-6F})) << c;
    EXPECT_TRUE(tandem::test::close(out.got(2, c), out.at(2, c), {2e-6F, 4e-6F})) << c;
  }
}

TEST_P(CpuRows, LayerNormInPlaceAndNotANumber) {
  Matrix x(DType::f32, 40, 600), gamma(DType::f32, 1, 600), beta(DType::f32, 1, 600), out(DType::f32, 40, 600);
  x.fill(1), gamma.fill(2), beta.fill(3);
  x.at(33, 17) = std::numeric_limits<float>::quiet_NaN();
  x.store();
  cpu->layer_norm({x.view(), gamma.host_vector(), beta.host_vector(), 1e-5F, {out.view(), {}}});
  cpu->layer_norm({x.view(), gamma.host_vector(), beta.host_vector(), 1e-5F, {x.view(), {}}});
  for (std::int64_t r = 0; r < 40; ++r) {
    for (std::int64_t c = 0; c < 600; ++c) {
      EXPECT_EQ(std::isnan(x.got(r, c)), r == 33);
      if (r != 33) {
        EXPECT_EQ(x.got(r, c), out.got(r, c));
      }
    }
  }
}

TEST_P(CpuRows, TokensAndPositions) {
  for (const std::int64_t width : {1, 20, 64, 512}) {
    Matrix table(DType::f32, 50, width), position(DType::f32, 12, width), out(DType::f32, 90, width);
    table.fill(1), position.fill(2);
    Matrix rounded(way().type(), 50, width);
    std::vector<std::int32_t> ids(90), positions(90);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      ids[i] = static_cast<std::int32_t>(i * 7 % 50), positions[i] = static_cast<std::int32_t>(i % 12);
    }
    for (std::int64_t r = 0; r < 50; ++r) {
      for (std::int64_t c = 0; c < width; ++c) rounded.at(r, c) = table.at(r, c);
    }
    rounded.store();
    const Tensor prepared = cpu->prepare_table(table.view(), way().precision);
    EXPECT_EQ(prepared.dtype(), way().type());
    reference->embed_tokens({ids.data(), positions.data(), rounded.reference(), position.reference(), out.reference()});
    cpu->embed_tokens({ids.data(), positions.data(), prepared.view(), position.view(), out.view()});
    expect_close(out, {0, 0}, "width " + std::to_string(width));
  }
}

TEST_P(CpuRows, SelectedRows) {
  for (const DType type : {DType::f32, way().type()}) {
    Matrix x(type, 12, 19, 23), out(type, 4, 19), every(type, 4, 19);
    x.fill(1);
    const std::vector<std::int32_t> rows{11, 0, 5, 5};
    cpu->select_rows({x.view(), rows.data(), out.view()});
    cpu->select_rows({x.view(), nullptr, every.view(), 3});
    for (std::int64_t r = 0; r < 4; ++r) {
      for (std::int64_t c = 0; c < 19; ++c) {
        EXPECT_EQ(out.got(r, c), x.got(rows[static_cast<std::size_t>(r)], c));
        EXPECT_EQ(every.got(r, c), x.got(3 * r, c));
      }
    }
  }
}

TEST_P(CpuRows, VectorsBecomeFloat32) {
  Matrix v(DType::f16, 1, 9);
  v.fill(1);
  const Tensor prepared = cpu->prepare_vector(v.host_vector());
  ASSERT_EQ(prepared.dtype(), DType::f32);
  for (std::int64_t i = 0; i < 9; ++i) EXPECT_EQ(prepared.view().as<float>()[i], v.at(0, i));
}

TEST_P(CpuRows, BoundThreadsComputeTheSame) {
  const auto bound = make_cpu_backend({way().threads, true, way().isa, way().gemm});
  Matrix x(DType::f32, 64, 600), gamma(DType::f32, 1, 600), beta(DType::f32, 1, 600);
  Matrix a(DType::f32, 64, 600), b(DType::f32, 64, 600);
  x.fill(1), gamma.fill(2), beta.fill(3);
  // On a thread of its own: binding is for life.
  std::thread([&] {
    bound->layer_norm({x.view(), gamma.host_vector(), beta.host_vector(), 1e-5F, {a.view(), {}}});
  }).join();
  cpu->layer_norm({x.view(), gamma.host_vector(), beta.host_vector(), 1e-5F, {b.view(), {}}});
  for (std::int64_t c = 0; c < 600; ++c) EXPECT_EQ(a.got(63, c), b.got(63, c));
}

INSTANTIATE_TEST_SUITE_P(Ways, CpuRows, ::testing::ValuesIn(all_ways()), name_of);

}  // namespace
}  // namespace tandem::backend::test
