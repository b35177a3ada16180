// What the tests of the CUDA backend share: every precision on the first device against the reference backend. Without
// a device they are skipped, and say why.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "backend/cuda/loader.h"
#include "backend/reference/reference_backend.h"
#include "unit/backend/matrix.h"

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
    reference = make_reference_backend();
  }
  DType type() const { return cuda->types(GetParam()).activation; }
  DType residual_type() const { return cuda->types(GetParam()).residual; }

  std::unique_ptr<Backend> cuda, reference;
};

inline std::string name_of(const ::testing::TestParamInfo<Precision>& info) {
  return std::string(to_string(info.param));
}

inline auto every_precision() {
  return ::testing::Values(Precision::fp32, Precision::tf32, Precision::fp16, Precision::bf16);
}

}  // namespace tandem::backend::test
