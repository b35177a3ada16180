// The resize against the slow definition, its geometry, and its refusals.
#include "image/fit.h"

#include <gtest/gtest.h>

#include "image/resample.h"
#include "image_testing.h"
#include "tandem/error.h"

namespace tandem::image {
namespace {

class EveryIsa : public ::testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!isa_available(GetParam())) GTEST_SKIP() << "this processor has no " << isa_name(GetParam());
  }
};

FitOptions exact(int width, int height, Resample resample, Reference reference) {
  FitOptions o;
  o.mode = FitOptions::ResizeMode::exact;
  o.resize_width = width;
  o.resize_height = height;
  o.do_center_crop = false;
  o.resample = resample;
  o.reference = reference;
  return o;
}

TEST_P(EveryIsa, EqualsTheDefinition) {
  std::uint32_t seed = 7;
  const auto random = [&seed](int limit) {
    return static_cast<int>((seed = seed * 1664525 + 1013904223) >> 8) % limit;
  };
  int rows_first_cases = 0;
  for (int round = 0; round < 120; ++round) {
    const int most = round % 3 == 0 ? 9 : round % 3 == 1 ? 60 : 150;
    const Image image = testing::grid(1 + random(most), 1 + random(most));
    const int width = 1 + random(most), height = 1 + random(most);
    for (const Resample resample : {Resample::bilinear, Resample::bicubic}) {
      for (const Reference reference : {Reference::hf, Reference::hf_fast}) {
        const FitOptions o = exact(width, height, resample, reference);
        const bool pillow = reference == Reference::hf;
        const bool rows = rows_first(plan_fit({image.width, image.height}, o));
        rows_first_cases += rows;
        const Image want =
            testing::slow_resize(image, width, height, resample == Resample::bicubic, pillow ? 22 : 0, rows);
        std::vector<std::uint8_t> got(want.pixels.size());
        fit(image, o, got, GetParam());
        ASSERT_EQ(got, want.pixels) << image.width << "x" << image.height << " to " << width << "x" << height
                                    << (resample == Resample::bicubic ? " bicubic" : " bilinear")
                                    << (pillow ? " pillow" : " torch");
      }
    }
  }
  EXPECT_GT(rows_first_cases, 10);
}

TEST_P(EveryIsa, ACropIsAPartOfTheWhole) {
  const Image image = testing::grid(157, 211);
  for (const Reference reference : {Reference::hf, Reference::openai, Reference::hf_fast}) {
    FitOptions whole;
    whole.reference = reference;
    whole.resize_height = whole.resize_width = 60;
    whole.do_center_crop = false;
    const Size size = fitted_size({image.width, image.height}, whole);
    ASSERT_EQ(size, (Size{60, 80}));
    std::vector<std::uint8_t> all(3 * 60 * 80), part(3 * 31 * 29);
    fit(image, whole, all, GetParam());
    FitOptions crop = whole;
    crop.do_center_crop = true;
    crop.crop_width = 31;
    crop.crop_height = 29;
    fit(image, crop, part, GetParam());
    // 29 spare columns and 51 spare rows: 14.5 rounds to 14 both ways, 25.5 down to 25 or to the even 26.
    const int left = 14, top = reference == Reference::openai ? 26 : 25;
    for (int y = 0; y < 29; ++y) {
      for (int i = 0; i < 93; ++i) ASSERT_EQ(part[y * 93 + i], all[((y + top) * 60 + left) * 3 + i]) << y << " " << i;
    }
  }
}

TEST_P(EveryIsa, RowsMayHaveGapsAndNothingIsReadBeyondThem) {
  for (const int width : {1, 4, 5, 17, 64}) {
    const Image image = testing::grid(width, 40);
    // Each row ends where an allocation of its own ends, for the address sanitiser to see a byte too many.
    std::vector<std::uint8_t> gaps;
    const int stride = 3 * width + 11;
    for (int y = 0; y < 40; ++y) {
      gaps.insert(gaps.end(), image.pixels.begin() + y * 3 * width, image.pixels.begin() + (y + 1) * 3 * width);
      if (y < 39) gaps.insert(gaps.end(), 11, 0xAA);
    }
    gaps.shrink_to_fit();
    const FitOptions o = exact(23, 19, Resample::bicubic, Reference::hf);
    std::vector<std::uint8_t> want(3 * 23 * 19), got(want.size());
    fit(image, o, want, Isa::scalar);
    fit(HostPixels(gaps.data(), width, 40, stride), o, got, GetParam());
    EXPECT_EQ(got, want) << width;
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, EveryIsa, ::testing::Values(Isa::scalar, Isa::avx2, Isa::avx512),
                         [](const auto& each) { return std::string(isa_name(each.param)); });

TEST(Fit, PaddingGoesWhereEachReferencePutsIt) {
  Image image{3, 1, std::vector<std::uint8_t>(9, 200)};
  FitOptions o;
  o.do_resize = false;
  o.crop_width = 6;
  o.crop_height = 2;
  for (const Reference reference : {Reference::hf, Reference::openai, Reference::hf_fast}) {
    o.reference = reference;
    std::vector<std::uint8_t> out(36, 7);
    fit(image, o, out);
    const int left = reference == Reference::hf ? 2 : 1, top = reference == Reference::hf ? 1 : 0;
    for (int y = 0; y < 2; ++y) {
      for (int x = 0; x < 6; ++x) {
        const bool inside = y == top && x >= left && x < left + 3;
        EXPECT_EQ(out[(y * 6 + x) * 3], inside ? 200 : 0) << x << " " << y;
      }
    }
  }
}

TEST(Fit, SizesFollowPython) {
  FitOptions o;
  o.do_center_crop = false;
  EXPECT_EQ(fitted_size({640, 480}, o), (Size{298, 224}));  // int(298.67)
  EXPECT_EQ(fitted_size({480, 640}, o), (Size{224, 298}));
  EXPECT_EQ(fitted_size({3, 1}, o), (Size{672, 224}));
  o.do_resize = false;
  EXPECT_EQ(fitted_size({5, 9}, o), (Size{5, 9}));
  o.do_center_crop = true;
  EXPECT_EQ(fitted_size({5, 9}, o), (Size{224, 224}));
}

TEST(Fit, RefusesWhatMakesNoSense) {
  const Image image = testing::grid(4, 4);
  std::vector<std::uint8_t> out(224 * 224 * 3);
  const auto code_of = [&](const FitOptions& o, std::span<std::uint8_t> to) {
    try {
      fit(image, o, to);
    } catch (const Error& e) {
      return e.code();
    }
    return Code::internal;
  };
  EXPECT_EQ(code_of(FitOptions{}, std::span(out).first(10)), Code::invalid_argument);
  FitOptions o;
  o.resize_width = 0;
  EXPECT_EQ(code_of(o, out), Code::invalid_argument);
  o = FitOptions{};
  o.resize_width = 225;  // a shortest edge is one number
  EXPECT_EQ(code_of(o, out), Code::invalid_argument);
  o = FitOptions{};
  o.crop_height = -1;
  EXPECT_EQ(code_of(o, out), Code::invalid_argument);
  o.crop_height = 1 << 20;
  EXPECT_EQ(code_of(o, out), Code::invalid_argument);
  try {
    fitted_size({1, 1'000'000}, FitOptions{});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::too_large);
  }
}

}  // namespace
}  // namespace tandem::image
