// What the tests of the CUDA backend share: every precision on the first device against the reference backend. Without
// a device they are skipped, and say why.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "backend/cuda/loader.h"
#include "unit/backend/matrix.h"
#include "unit/backend/parallel_reference.h"

namespace tandem::backend::test {

class CudaTest : public ::testing::TestWithParam<Precision> {
 protected:
  void SetUp() override {
    try {
      const auto devices = load_cuda_library().devices();
      if (devices.empty()) GTEST_SKIP() << "no CUDA device";
      cuda = make_cuda_backend(0);
      cuda->resolve(GetParam());
    } catch (const Error& error) {
      // Where there is a driver, a backend that does not start is a failure and no reason to skip.
      ASSERT_TRUE(!has_cuda_driver() || error.code() == Code::unsupported) << error.what();
      GTEST_SKIP() << error.what();
    }
    reference = std::make_unique<ParallelReference>();
  }
  DType type() const { return cuda->types(GetParam()).activation; }
  DType residual_type() const { return cuda->types(GetParam()).residual; }

  std::unique_ptr<Backend> cuda, reference;
};

/// backend.linear() of the rows that are looked at. x, residual and out are whole.
inline void linear_of_some_rows(Backend& backend, const LinearArgs& a, std::int64_t every) {
  const std::int64_t all = a.x.view.rows();
  const auto rows = [&](std::int64_t first, std::int64_t step) {
    const auto of = [&](auto v) {
      v = v.row_range(first, all - first);
      return decltype(v){v.data, v.dtype, {(v.rows() + step - 1) / step, v.columns()}, v.stride * step};
    };
    LinearArgs part = a;
    part.x = of(a.x.view), part.out.view = of(a.out.view);
    if (a.residual) part.residual = of(a.residual);
    backend.linear(part);
  };
  rows(0, every);
  if ((all - 1) % every != 0) rows(all - 1, 1);
}

inline std::string name_of(const ::testing::TestParamInfo<Precision>& info) {
  return std::string(to_string(info.param));
}

inline auto every_precision() {
  return ::testing::Values(Precision::fp32, Precision::tf32, Precision::fp16, Precision::bf16);
}

}  // namespace tandem::backend::test
