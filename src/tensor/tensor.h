// Shapes, views and owners. A view is trivially copyable and cannot free; an owner is move-only.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <type_traits>

#include "tandem/types.h"
#include "tensor/dtype.h"

namespace tandem {

/// Up to four dimensions, outermost first.
class Shape {
 public:
  static constexpr int kMaxRank = 4;
  constexpr Shape() = default;
  constexpr Shape(std::initializer_list<std::int64_t> dims) {
    for (const auto d : dims) {
      if (rank_ < kMaxRank) dims_[static_cast<std::size_t>(rank_++)] = d;
    }
  }
  constexpr int rank() const noexcept { return rank_; }
  constexpr std::int64_t operator[](int i) const noexcept { return dims_[static_cast<std::size_t>(i)]; }
  constexpr std::int64_t elements() const noexcept {
    std::int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= (*this)[i];
    return n;
  }
  /// The last dimension, and the product of all others: every operation of a Backend sees rows x columns.
  constexpr std::int64_t columns() const noexcept { return rank_ == 0 ? 1 : (*this)[rank_ - 1]; }
  constexpr std::int64_t rows() const noexcept { return columns() == 0 ? 0 : elements() / columns(); }
  friend constexpr bool operator==(const Shape&, const Shape&) = default;

 private:
  std::array<std::int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

/// "[50, 768]"
std::string to_string(const Shape& shape);

/// Elements somewhere in a device's memory. `stride` is the number of elements between the starts of two rows, so that
/// the query, key and value columns of a packed product can be seen as matrices of their own.
template <class Byte>
struct BasicView {
  Byte* data = nullptr;
  DType dtype = DType::f32;
  Shape shape;
  std::int64_t stride = 0;

  constexpr BasicView() = default;
  constexpr BasicView(Byte* d, DType t, Shape s) : data(d), dtype(t), shape(s), stride(s.columns()) {}
  constexpr BasicView(Byte* d, DType t, Shape s, std::int64_t row_stride)
      : data(d), dtype(t), shape(s), stride(row_stride) {}
  /// A view that may write can be passed where one that only reads is wanted.
  template <class Other>  // NOLINTNEXTLINE(google-explicit-constructor)
  requires(std::is_const_v<Byte>&& std::is_same_v<Other, std::remove_const_t<Byte>>) constexpr BasicView(
      const BasicView<Other>& o)
      : data(o.data), dtype(o.dtype), shape(o.shape), stride(o.stride) {}

  constexpr explicit operator bool() const noexcept { return data != nullptr; }
  constexpr std::int64_t rows() const noexcept { return shape.rows(); }
  constexpr std::int64_t columns() const noexcept { return shape.columns(); }
  constexpr bool contiguous() const noexcept { return stride == columns() || rows() <= 1; }
  constexpr std::size_t bytes() const noexcept { return static_cast<std::size_t>(shape.elements()) * size_of(dtype); }
  /// Rows [first, first + count) as a matrix.
  constexpr BasicView row_range(std::int64_t first, std::int64_t count) const noexcept {
    return {offset(first * stride), dtype, Shape{count, columns()}, stride};
  }
  /// Columns [first, first + count) as a matrix with the same stride.
  constexpr BasicView column_range(std::int64_t first, std::int64_t count) const noexcept {
    return {offset(first), dtype, Shape{rows(), count}, stride};
  }
  template <class T>
  auto as() const noexcept {
    return reinterpret_cast<std::conditional_t<std::is_const_v<Byte>, const T*, T*>>(data);
  }

 private:
  constexpr Byte* offset(std::int64_t elements) const noexcept {
    return data + elements * static_cast<std::int64_t>(size_of(dtype));
  }
};

using View = BasicView<std::byte>;
using ConstView = BasicView<const std::byte>;
static_assert(std::is_trivially_copyable_v<View>);

/// Memory of one device, freed by whoever allocated it. Move-only.
class Buffer {
 public:
  using Free = std::function<void(std::byte*)>;
  Buffer() = default;
  Buffer(std::byte* data, std::size_t bytes, Free free) : data_(data, std::move(free)), bytes_(bytes) {}
  std::byte* data() const noexcept { return data_.get(); }
  std::size_t bytes() const noexcept { return bytes_; }

 private:
  std::unique_ptr<std::byte, Free> data_{nullptr, [](std::byte*) {}};
  std::size_t bytes_ = 0;
};

/// Host memory aligned for the widest vector loads. Throws out_of_memory naming the size.
Buffer allocate_host(std::size_t bytes, std::size_t alignment = 64);

/// A dense tensor that owns its memory.
class Tensor {
 public:
  Tensor() = default;
  Tensor(Buffer buffer, DType type, Shape shape) : buffer_(std::move(buffer)), type_(type), shape_(shape) {}
  View view() const noexcept { return {buffer_.data(), type_, shape_}; }
  DType dtype() const noexcept { return type_; }
  const Shape& shape() const noexcept { return shape_; }
  std::size_t bytes() const noexcept { return buffer_.bytes(); }
  explicit operator bool() const noexcept { return buffer_.data() != nullptr; }

 private:
  Buffer buffer_;
  DType type_ = DType::f32;
  Shape shape_;
};

Tensor host_tensor(DType type, Shape shape);

/// Copies elements between host views of equal shape, converting between f32, f16 and bf16 as the functions in dtype.h
/// do, bit for bit. plain: without the instructions that only newer processors have, for tests. Throws internal for
/// unequal shapes and other types.
void convert(ConstView from, View to, bool plain = false);

}  // namespace tandem
