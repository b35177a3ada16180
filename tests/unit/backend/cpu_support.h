// What the tests of the CPU backend share: every instruction set and precision against the reference backend.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "backend/cpu/cpu_backend.h"
#include "backend/reference/reference_backend.h"
#include "tolerance.h"

namespace tandem::backend::test {

/// One way in which this backend can compute.
struct Way {
  std::string isa;
  Precision precision = Precision::fp32;
  GemmEngine gemm = GemmEngine::own;
  int threads = 3;
  DType type() const { return precision == Precision::bf16 ? DType::bf16 : DType::f32; }
};

inline std::string name_of(const ::testing::TestParamInfo<Way>& info) {
  return info.param.isa + (info.param.precision == Precision::bf16 ? "_bf16" : "_fp32") +
         (info.param.gemm == GemmEngine::onednn ? "_onednn" : "");
}

inline std::vector<Way> all_ways() {
  return {{"sse2"},
          {"avx2"},
          {"avx512"},
          {"avx512_bf16"},
          {"avx512_bf16", Precision::bf16},
          {"avx512", Precision::fp32, GemmEngine::onednn},
          {"avx512_bf16", Precision::bf16, GemmEngine::onednn},
          {"amx_bf16", Precision::bf16, GemmEngine::automatic}};
}

/// A matrix in the type of a way, and the same values as float32 for the reference.
class Matrix {
 public:
  Matrix(DType type, std::int64_t rows, std::int64_t columns, std::int64_t stride = 0)
      : rows_(rows),
        columns_(columns),
        stride_(stride == 0 ? columns : stride),
        exact_(static_cast<std::size_t>(rows_ * stride_), 0.0F),
        stored_(host_tensor(type, {rows_, stride_})) {
    store();
  }
  /// Normal values with this spread, rounded to the type, so that both sides compute from equal numbers.
  Matrix& fill(unsigned seed, float spread = 1) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, spread);
    for (float& v : exact_) v = normal(random);
    store();
    return *this;
  }
  float& at(std::int64_t r, std::int64_t c) { return exact_[static_cast<std::size_t>(r * stride_ + c)]; }
  /// After changing values by at().
  void store() {
    convert(exact(), stored_.view());
    convert(stored_.view(), exact_view());
  }
  View view() const { return {stored_.view().data, stored_.dtype(), {rows_, columns_}, stride_}; }
  View vector() const { return {stored_.view().data, stored_.dtype(), {columns_}}; }
  View reference() { return {exact_view().data, DType::f32, {rows_, columns_}, stride_}; }
  View reference_vector() { return {exact_view().data, DType::f32, {columns_}}; }
  /// What a backend wrote into view(), as float32.
  float got(std::int64_t r, std::int64_t c) const {
    float value = 0;
    const auto size = static_cast<std::int64_t>(size_of(stored_.dtype()));
    convert({stored_.view().data + (r * stride_ + c) * size, stored_.dtype(), {1}},
            {reinterpret_cast<std::byte*>(&value), DType::f32, {1}});
    return value;
  }
  std::int64_t rows() const { return rows_; }
  std::int64_t columns() const { return columns_; }

 private:
  View exact_view() { return {reinterpret_cast<std::byte*>(exact_.data()), DType::f32, {rows_, stride_}}; }
  ConstView exact() { return exact_view(); }

  std::int64_t rows_, columns_, stride_;
  std::vector<float> exact_;
  Tensor stored_;
};

/// Every element of `m`, as the backend wrote it, against what the reference wrote.
inline void expect_close(Matrix& m, tandem::test::Tolerance t, const std::string& what) {
  int shown = 0;
  for (std::int64_t r = 0; r < m.rows() && shown < 3; ++r) {
    for (std::int64_t c = 0; c < m.columns() && shown < 3; ++c) {
      if (tandem::test::close(m.got(r, c), m.at(r, c), t)) continue;
      ADD_FAILURE() << what << " [" << r << ", " << c << "]: got " << m.got(r, c) << ", want " << m.at(r, c);
      ++shown;
    }
  }
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
