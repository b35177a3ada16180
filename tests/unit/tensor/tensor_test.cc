#include "tensor/tensor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

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
