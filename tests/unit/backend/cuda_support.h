// What the tests of the CUDA backend share: every precision on the first device against the reference backend. Without
// a device they are skipped, and say why.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "backend/cuda/loader.h"
#include "backend/reference/reference_backend.h"
#include "tolerance.h"

namespace tandem::backend::test {

/// A matrix in a device's memory, and the same values as float32 in the host's for the reference.
class DeviceMatrix {
 public:
  DeviceMatrix(Backend& backend, DType type, std::int64_t rows, std::int64_t columns, std::int64_t stride = 0)
      : backend_(backend),
        rows_(rows),
        columns_(columns),
        stride_(stride == 0 ? columns : stride),
        exact_(static_cast<std::size_t>(rows_ * stride_), 0.0F),
        stored_(host_tensor(type, {rows_, stride_})),
        memory_(backend.allocate(stored_.bytes())) {
    store();
  }
  /// Normal values with this spread, rounded to the type, so that both sides compute from equal numbers.
  DeviceMatrix& fill(unsigned seed, float spread = 1) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, spread);
    for (float& v : exact_) v = normal(random);
    store();
    return *this;
  }
  float& at(std::int64_t r, std::int64_t c) { return exact_[static_cast<std::size_t>(r * stride_ + c)]; }
  /// After changing values by at().
  void store() {
    convert(exact_view(), stored_.view());
    convert(stored_.view(), exact_view());
    backend_.upload(stored_.view().data, whole());
  }
  /// Reads back what the device holds, for got().
  void fetch() { backend_.download(whole(), stored_.view().data); }

  View view() const { return {memory_.data(), stored_.dtype(), {rows_, columns_}, stride_}; }
  View reference() { return {exact_view().data, DType::f32, {rows_, columns_}, stride_}; }
  View reference_vector() { return {exact_view().data, DType::f32, {columns_}}; }
  /// The values in host memory in the stored type, as a checkpoint has them.
  ConstView host() const { return {stored_.view().data, stored_.dtype(), {rows_, columns_}, stride_}; }
  ConstView host_vector() const { return {stored_.view().data, stored_.dtype(), {columns_}}; }
  float got(std::int64_t r, std::int64_t c) const {
    float value = 0;
    const auto size = static_cast<std::int64_t>(size_of(stored_.dtype()));
    convert({stored_.view().data + (r * stride_ + c) * size, stored_.dtype(), {1}},
            {reinterpret_cast<std::byte*>(&value), DType::f32, {1}});
    return value;
  }
  std::int64_t rows() const { return rows_; }
  std::int64_t columns() const { return columns_; }
  std::int64_t stride() const { return stride_; }

 private:
  View whole() const { return {memory_.data(), stored_.dtype(), {rows_, stride_}}; }
  View exact_view() { return {reinterpret_cast<std::byte*>(exact_.data()), DType::f32, {rows_, stride_}}; }

  Backend& backend_;
  std::int64_t rows_, columns_, stride_;
  std::vector<float> exact_;
  Tensor stored_;
  Buffer memory_;
};

/// Every element of `m` on the device against what the reference wrote; what lies between two rows is untouched.
inline void expect_close(DeviceMatrix& m, tandem::test::Tolerance t, const std::string& what) {
  m.fetch();
  int shown = 0;
  for (std::int64_t r = 0; r < m.rows() && shown < 3; ++r) {
    for (std::int64_t c = 0; c < m.stride() && shown < 3; ++c) {
      const bool inside = c < m.columns();
      if (tandem::test::close(m.got(r, c), m.at(r, c), inside ? t : tandem::test::Tolerance{0, 0})) continue;
      ADD_FAILURE() << what << " [" << r << ", " << c << "]" << (inside ? "" : ", beyond the row") << ": got "
                    << m.got(r, c) << ", want " << m.at(r, c);
      ++shown;
    }
  }
}

/// Integers in the device's memory.
class DeviceIntegers {
 public:
  DeviceIntegers(Backend& backend, const std::vector<std::int32_t>& values)
      : memory_(backend.allocate(values.size() * 4)) {
    backend.upload(values.data(), {memory_.data(), DType::i32, {static_cast<std::int64_t>(values.size())}});
  }
  const std::int32_t* data() const { return reinterpret_cast<const std::int32_t*>(memory_.data()); }

 private:
  Buffer memory_;
};

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
