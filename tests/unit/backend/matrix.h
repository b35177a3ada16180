// Values for the tests of backends: as the backend has them, and as float32 for the reference.
#pragma once

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "tolerance.h"

namespace tandem::backend::test {

/// A matrix in host memory in some type, and the same values as float32. Between two rows there may be a gap.
class Matrix {
 public:
  Matrix(DType type, std::int64_t rows, std::int64_t columns, std::int64_t stride = 0)
      : rows_(rows),
        columns_(columns),
        stride_(stride == 0 ? columns : stride),
        exact_(static_cast<std::size_t>(rows_ * stride_), 0.0F),
        stored_(host_tensor(type, {rows_, stride_})) {
    convert(exact_view(), stored_.view());
  }
  virtual ~Matrix() = default;
  Matrix(const Matrix&) = delete;
  Matrix& operator=(const Matrix&) = delete;

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
  virtual void store() {
    convert(exact_view(), stored_.view());
    convert(stored_.view(), exact_view());
  }
  /// Reads back what a backend wrote into view(), for got().
  virtual void fetch() {}
  /// For the backend.
  virtual View view() const { return {stored_.view().data, stored_.dtype(), {rows_, columns_}, stride_}; }
  /// For the reference, which computes in float32.
  View reference() { return {exact_view().data, DType::f32, {rows_, columns_}, stride_}; }
  View reference_vector() { return {exact_view().data, DType::f32, {columns_}}; }
  /// The values in host memory in the stored type, as a checkpoint has them.
  ConstView host() const { return {stored_.view().data, stored_.dtype(), {rows_, columns_}, stride_}; }
  ConstView host_vector() const { return {stored_.view().data, stored_.dtype(), {columns_}}; }
  /// What a backend wrote, as float32.
  float got(std::int64_t r, std::int64_t c) const {
    const std::int64_t i = r * stride_ + c;
    const View v = stored_.view();
    if (v.dtype == DType::f32) return v.as<float>()[i];
    if (v.dtype == DType::f16) return half_to_float(v.as<std::uint16_t>()[i]);
    if (v.dtype == DType::bf16) return bfloat16_to_float(v.as<std::uint16_t>()[i]);
    throw Error(Code::internal, "elements of this type are not compared");
  }
  std::int64_t rows() const { return rows_; }
  std::int64_t columns() const { return columns_; }
  std::int64_t stride() const { return stride_; }

 protected:
  /// Gaps included.
  View stored() const { return stored_.view(); }

 private:
  View exact_view() { return {reinterpret_cast<std::byte*>(exact_.data()), DType::f32, {rows_, stride_}}; }

  std::int64_t rows_, columns_, stride_;
  std::vector<float> exact_;
  Tensor stored_;
};

/// A matrix in a backend's own memory.
class DeviceMatrix final : public Matrix {
 public:
  DeviceMatrix(Backend& backend, DType type, std::int64_t rows, std::int64_t columns, std::int64_t stride = 0)
      : Matrix(type, rows, columns, stride), backend_(backend), memory_(backend.allocate(stored().bytes())) {
    backend_.upload(stored().data, whole());
  }
  void store() override {
    Matrix::store();
    backend_.upload(stored().data, whole());
  }
  void fetch() override { backend_.download(whole(), stored().data); }
  View view() const override { return {memory_.data(), stored().dtype, {rows(), columns()}, stride()}; }

 private:
  View whole() const { return {memory_.data(), stored().dtype, stored().shape}; }

  Backend& backend_;
  Buffer memory_;
};

/// Integers in a backend's memory.
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

/// Whether a row is one of those that large results are looked at by: every so-manyth, and the last.
inline bool is_looked_at(std::int64_t row, std::int64_t rows, std::int64_t every) {
  return row % every == 0 || row + 1 == rows;
}

/// Every element of `m`, as the backend wrote it, against what the reference wrote, or those of the rows that are
/// looked at; what lies between two rows is untouched.
inline void expect_close(Matrix& m, tandem::test::Tolerance t, const std::string& what, std::int64_t every = 1) {
  m.fetch();
  int shown = 0;
  for (std::int64_t r = 0; r < m.rows() && shown < 3; ++r) {
    const std::int64_t begin = is_looked_at(r, m.rows(), every) ? 0 : m.columns();
    for (std::int64_t c = begin; c < m.stride() && shown < 3; ++c) {
      const bool inside = c < m.columns();
      if (tandem::test::close(m.got(r, c), m.at(r, c), inside ? t : tandem::test::Tolerance{0, 0})) continue;
      ADD_FAILURE() << what << " [" << r << ", " << c << "]" << (inside ? "" : ", beyond the row") << ": got "
                    << m.got(r, c) << ", want " << m.at(r, c);
      ++shown;
    }
  }
}

}  // namespace tandem::backend::test
