#include "tensor/tensor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "tensor/arena.h"

namespace tandem {
namespace {

TEST(Half, EveryValueSurvivesTheRoundTrip) {
  for (std::uint32_t bits = 0; bits < 0x10000u; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float value = half_to_float(half);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(half_to_float(float_to_half(value))));
    } else {
      ASSERT_EQ(float_to_half(value), half) << bits;
    }
  }
}

TEST(Half, RoundsToNearestEven) {
  for (std::uint32_t bits = 0; bits < 0x7bffu; ++bits) {
    const float low = half_to_float(static_cast<std::uint16_t>(bits));
    const float high = half_to_float(static_cast<std::uint16_t>(bits + 1));
    const float middle = (low + high) / 2;
    const auto even = static_cast<std::uint16_t>(bits % 2 == 0 ? bits : bits + 1);
    ASSERT_EQ(float_to_half(middle), even) << bits;
    ASSERT_EQ(float_to_half(std::nextafter(middle, 0.0F)), bits) << bits;
    ASSERT_EQ(float_to_half(std::nextafter(middle, 1e9F)), bits + 1) << bits;
  }
  EXPECT_EQ(float_to_half(65519.99F), 0x7bff);
  EXPECT_EQ(float_to_half(65520.0F), 0x7c00);
  EXPECT_EQ(float_to_half(-std::numeric_limits<float>::infinity()), 0xfc00);
}

TEST(BFloat16, RoundsToNearestEvenAndKeepsNaN) {
  EXPECT_EQ(float_to_bfloat16(1.0F), 0x3f80);
  EXPECT_EQ(float_to_bfloat16(1.0F + 0x1p-8F), 0x3f80);  // a tie goes to the even one
  EXPECT_EQ(float_to_bfloat16(1.0F + 3 * 0x1p-8F), 0x3f82);
  EXPECT_EQ(float_to_bfloat16(std::nextafter(1.0F + 0x1p-8F, 2.0F)), 0x3f81);
  EXPECT_TRUE(std::isnan(bfloat16_to_float(float_to_bfloat16(__builtin_bit_cast(float, 0x7f800001u)))));
}

TEST(View, RowsAndColumnsOfAPackedMatrix) {
  Tensor t = host_tensor(DType::f32, {4, 6});
  for (int i = 0; i < 24; ++i) t.view().as<float>()[i] = static_cast<float>(i);
  const ConstView keys = t.view().column_range(2, 2).row_range(1, 3);
  EXPECT_EQ(keys.shape, (Shape{3, 2}));
  EXPECT_EQ(keys.as<float>()[0], 8.0F);
  EXPECT_EQ(keys.as<float>()[keys.stride], 14.0F);
  EXPECT_FALSE(keys.contiguous());
}

TEST(Convert, BetweenStoredTypes) {
  Tensor a = host_tensor(DType::f32, {2, 2});
  const float values[] = {1.5F, -2.0F, 1e-7F, 70000.0F};
  std::memcpy(a.view().data, values, sizeof values);
  Tensor h = host_tensor(DType::f16, {2, 2});
  Tensor back = host_tensor(DType::f32, {2, 2});
  convert(a.view(), h.view());
  convert(h.view(), back.view());
  EXPECT_EQ(back.view().as<float>()[0], 1.5F);
  EXPECT_EQ(back.view().as<float>()[1], -2.0F);
  EXPECT_TRUE(std::isinf(back.view().as<float>()[3]));
  EXPECT_THROW(convert(a.view(), host_tensor(DType::i8, {2, 2}).view()), Error);
}

std::vector<std::uint32_t> bits_of(const Tensor& t) {
  std::vector<std::uint32_t> out;
  for (std::int64_t i = 0; i < t.shape().elements(); ++i) {
    out.push_back(t.dtype() == DType::f32 ? t.view().as<std::uint32_t>()[i] : t.view().as<std::uint16_t>()[i]);
  }
  return out;
}

/// A tensor converted by both compilations of the loop, as bits: they must agree.
std::vector<std::uint32_t> converted(const Tensor& from, DType type) {
  Tensor fast = host_tensor(type, from.shape()), plain = host_tensor(type, from.shape());
  convert(from.view(), fast.view());
  convert(from.view(), plain.view(), true);
  EXPECT_EQ(bits_of(fast), bits_of(plain));
  return bits_of(fast);
}

TEST(Convert, EveryHalfAndEveryBFloat16HasTheScalarFunctionsBits) {
  for (const DType type : {DType::f16, DType::bf16}) {
    Tensor all = host_tensor(type, {256, 256});
    std::vector<std::uint32_t> wide, other;
    for (std::uint32_t i = 0; i < 0x10000u; ++i) {
      const auto bits = static_cast<std::uint16_t>(i);
      all.view().as<std::uint16_t>()[i] = bits;
      const float value = type == DType::f16 ? half_to_float(bits) : bfloat16_to_float(bits);
      wide.push_back(__builtin_bit_cast(std::uint32_t, value));
      other.push_back(type == DType::f16 ? float_to_bfloat16(value) : float_to_half(value));
    }
    EXPECT_EQ(converted(all, DType::f32), wide);
    EXPECT_EQ(converted(all, type == DType::f16 ? DType::bf16 : DType::f16), other);
    EXPECT_EQ(converted(all, type), bits_of(all));
  }
}

TEST(Convert, FloatsOfEveryExponentRoundAsTheScalarFunctionsDo) {
  // Every sign and exponent with the low halves at which rounding changes, and every top of the mantissa.
  std::vector<std::uint32_t> bits;
  for (std::uint32_t top = 0; top < 0x10000u; ++top) {
    for (const std::uint32_t low : {0x0000u, 0x0001u, 0x0fffu, 0x1000u, 0x1001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      bits.push_back(top << 16 | low);
    }
  }
  Tensor floats = host_tensor(DType::f32, {0x10000, 9});
  std::memcpy(floats.view().data, bits.data(), bits.size() * 4);
  for (const DType type : {DType::bf16, DType::f16}) {
    std::vector<std::uint32_t> want;
    for (const std::uint32_t b : bits) {
      const auto value = __builtin_bit_cast(float, b);
      want.push_back(type == DType::bf16 ? float_to_bfloat16(value) : float_to_half(value));
    }
    EXPECT_EQ(converted(floats, type), want);
  }
}

TEST(Convert, RowsWithStridesOfAnyLength) {
  for (std::int64_t columns = 1; columns < 40; ++columns) {
    Tensor from = host_tensor(DType::f16, {3, columns + 5}), to = host_tensor(DType::f32, {3, columns + 2});
    for (std::int64_t i = 0; i < from.shape().elements(); ++i) {
      from.view().as<std::uint16_t>()[i] = float_to_half(static_cast<float>(i));
    }
    std::fill_n(to.view().as<float>(), to.shape().elements(), -1.0F);
    convert(from.view().column_range(3, columns), to.view().column_range(1, columns));
    for (std::int64_t r = 0; r < 3; ++r) {
      const float* row = to.view().as<float>() + r * (columns + 2);
      EXPECT_EQ(row[0], -1.0F);
      EXPECT_EQ(row[columns + 1], -1.0F);
      for (std::int64_t c = 0; c < columns; ++c) ASSERT_EQ(row[c + 1], static_cast<float>(r * (columns + 5) + c + 3));
    }
  }
  EXPECT_THROW(convert(host_tensor(DType::f32, {2, 3}).view(), host_tensor(DType::f32, {3, 2}).view()), Error);
}

TEST(Arena, MeasuresTakesAndRewinds) {
  Arena plan;
  plan.take(DType::f32, {10, 10});
  {
    Arena::Scope scope(plan);
    plan.take(DType::u8, {1000});
  }
  plan.take(DType::f32, {1});
  EXPECT_EQ(plan.peak(), 512u + 1024u);
  Arena arena(allocate_host(plan.peak(), Arena::kAlignment));
  const View a = arena.take(DType::f32, {10, 10});
  const View b = arena.take(DType::u8, {1000});
  EXPECT_EQ(b.data - a.data, 512);
  EXPECT_THROW(arena.take(DType::u8, {1}), Error);
}

}  // namespace
}  // namespace tandem
