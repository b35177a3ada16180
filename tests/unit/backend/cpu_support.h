// What the tests of the CPU backend share: every instruction set and precision against the reference backend.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "backend/cpu/cpu_backend.h"
#include "backend/reference/reference_backend.h"
#include "unit/backend/matrix.h"

namespace tandem::backend::test {

/// One way in which this backend can compute.
struct Way {
  std::string isa;
  Precision precision = Precision::fp32;
  GemmEngine gemm = GemmEngine::own;
  int threads = 3;
  /// Of activations.
  DType type() const {
    const bool bf16 = precision == Precision::bf16 || (precision == Precision::int8 && isa.ends_with("bf16"));
    return bf16 ? DType::bf16 : DType::f32;
  }
};

inline std::string name_of(const ::testing::TestParamInfo<Way>& info) {
  return info.param.isa + "_" + std::string(to_string(info.param.precision)) +
         (info.param.gemm == GemmEngine::onednn ? "_onednn" : "");
}

inline std::vector<Way> all_ways() {
  return {{"sse2"},
          {"avx2"},
          {"avx512"},
          {"avx512_vnni"},
          {"avx512_bf16"},
          {"avx512_bf16", Precision::bf16},
          {"avx512", Precision::fp32, GemmEngine::onednn},
          {"avx512_bf16", Precision::bf16, GemmEngine::onednn},
          {"amx_bf16", Precision::bf16, GemmEngine::automatic}};
}

class CpuBackendTest : public ::testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    try {
      cpu = make_cpu_backend({way().threads, false, way().isa, way().gemm});
    } catch (const Error& e) {
      ASSERT_EQ(e.code(), Code::unsupported);
      GTEST_SKIP() << e.what();
    }
    EXPECT_EQ(cpu->isa(), way().isa) << "another instruction set than asked for is active";
    reference = make_reference_backend();
  }
  const Way& way() const { return GetParam(); }

  std::unique_ptr<Backend> cpu, reference;
};

}  // namespace tandem::backend::test
