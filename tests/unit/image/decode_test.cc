// Broken, huge and foreign bytes: every one an Error that names the problem, none a crash.
#include "image/decode.h"

#include <gtest/gtest.h>

#include <optional>

#include "image/exif.h"
#include "image_testing.h"
#include "tandem/error.h"

namespace tandem::image {
namespace {

using testing::golden_path;
using testing::read_bytes;

constexpr const char* kOneOfEach[] = {
    "rgb_420.jpg", "rgb_progressive.jpg", "cmyk.jpg",      "rgb8.png",  "palette4_interlaced.png",
    "lossy.webp",  "lossless_alpha.webp", "animated.webp", "rgb24.bmp", "rle8.bmp",
    "plain.gif",   "interlaced.gif"};

/// The Error that decoding gives, or nothing.
std::optional<Error> error_of(std::span<const std::byte> bytes, const DecodeOptions& options = {}) {
  try {
    decode(bytes, options);
  } catch (const Error& e) {
    return e;
  }
  return std::nullopt;
}

TEST(Decode, SniffsByTheFirstBytes) {
  EXPECT_EQ(sniff_format(read_bytes(golden_path("grey.jpg"))), "jpeg");
  EXPECT_EQ(sniff_format(read_bytes(golden_path("grey1.png"))), "png");
  EXPECT_EQ(sniff_format(read_bytes(golden_path("lossy.webp"))), "webp");
  EXPECT_EQ(sniff_format(read_bytes(golden_path("rgb24.bmp"))), "bmp");
  EXPECT_EQ(sniff_format(read_bytes(golden_path("plain.gif"))), "gif");
  EXPECT_EQ(sniff_format({}), "");
  EXPECT_EQ(sniff_format(read_bytes(golden_path("manifest.json"))), "");
}

TEST(Decode, EmptyAndForeignBytesAreNamed) {
  const auto empty = error_of({});
  ASSERT_TRUE(empty);
  EXPECT_EQ(empty->code(), Code::bad_data);
  EXPECT_NE(std::string(empty->what()).find("0 bytes"), std::string::npos);
  const auto json = error_of(read_bytes(golden_path("manifest.json")));
  ASSERT_TRUE(json);
  EXPECT_EQ(json->code(), Code::bad_data);
  EXPECT_NE(std::string(json->what()).find("no known format"), std::string::npos);
}

TEST(Decode, EveryTruncationIsAnError) {
  for (const char* name : kOneOfEach) {
    const auto bytes = read_bytes(golden_path(name));
    ASSERT_FALSE(error_of(bytes)) << name;
    // The last bytes are end marks and paddings that Pillow does not need either.
    for (std::size_t size = 0; size + 24 < bytes.size(); size += 1 + size / 40) {
      // A second frame's bytes are not read.
      if (std::string_view(name) == "animated.webp" && size > bytes.size() / 2) break;
      const auto error = error_of(std::span(bytes).first(size));
      ASSERT_TRUE(error) << name << " cut to " << size << " of " << bytes.size();
      EXPECT_EQ(error->code(), Code::bad_data) << name << " " << size << " " << error->what();
      EXPECT_FALSE(std::string_view(error->what()).empty());
    }
  }
}

TEST(Decode, DamagedBytesNeverCrash) {
  std::uint32_t seed = 12345;
  const auto random = [&seed] { return (seed = seed * 1664525 + 1013904223) >> 8; };
  DecodeOptions options;
  options.limits.max_pixels = 1 << 20;
  int failed = 0, tried = 0;
  for (const char* name : kOneOfEach) {
    const auto bytes = read_bytes(golden_path(name));
    for (int round = 0; round < 150; ++round, ++tried) {
      auto damaged = bytes;
      for (std::uint32_t n = 1 + random() % 8; n > 0; --n)
        damaged[random() % damaged.size()] = static_cast<std::byte>(random());
      if (const auto error = error_of(damaged, options)) {
        ++failed;
        EXPECT_EQ(std::string_view(error->what()).find('\n'), std::string_view::npos) << error->what();
      }
    }
  }
  EXPECT_GT(failed, tried / 10);
}

TEST(Decode, LimitsAreCheckedFromTheHeader) {
  for (const char* name : kOneOfEach) {
    const auto bytes = read_bytes(golden_path(name));
    DecodeOptions few_pixels;
    few_pixels.limits.max_pixels = 300;
    const auto pixels = error_of(bytes, few_pixels);
    ASSERT_TRUE(pixels) << name;
    EXPECT_EQ(pixels->code(), Code::too_large) << name;
    EXPECT_NE(std::string(pixels->what()).find("300"), std::string::npos) << pixels->what();
    DecodeOptions few_bytes;
    few_bytes.limits.max_bytes = bytes.size() - 1;
    const auto size = error_of(bytes, few_bytes);
    ASSERT_TRUE(size) << name;
    EXPECT_EQ(size->code(), Code::too_large) << name;
    few_bytes.limits.max_bytes = bytes.size();
    EXPECT_FALSE(error_of(bytes, few_bytes)) << name;
  }
}

TEST(Decode, ABombIsRefusedBeforeItIsAllocated) {
  auto bytes = read_bytes(golden_path("rgb24.bmp"));
  for (const std::size_t at : {20, 24}) bytes[at] = std::byte{0x7F};  // 8 million by 8 million pixels
  const auto error = error_of(bytes);
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), Code::too_large);
}

TEST(Decode, OrientationOfDamagedMetadataIsUpright) {
  auto bytes = read_bytes(golden_path("exif_6.jpg"));
  EXPECT_EQ(orientation_of("jpeg", bytes), 6);
  const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const std::size_t exif = text.find("Exif");
  ASSERT_NE(exif, std::string::npos);
  for (std::size_t i = exif + 6; i < exif + 14; ++i) {
    auto damaged = bytes;
    damaged[i] = std::byte{0xEE};
    EXPECT_EQ(orientation_of("jpeg", damaged), 1) << i - exif;
    EXPECT_FALSE(error_of(damaged));
  }
}

TEST(Decode, UprightTurnsEveryPixel) {
  // 2 x 3 pixels, numbered row by row in the red channel.
  Image image{2, 3, {}};
  for (std::uint8_t i = 0; i < 6; ++i) image.pixels.insert(image.pixels.end(), {i, 0, 0});
  const auto reds = [&](int orientation) {
    const Image turned = upright(image, orientation);
    std::string digits = std::to_string(turned.width) + "x" + std::to_string(turned.height) + ":";
    for (std::size_t i = 0; i < turned.pixels.size(); i += 3) digits += std::to_string(turned.pixels[i]);
    return digits;
  };
  EXPECT_EQ(reds(1), "2x3:012345");
  EXPECT_EQ(reds(2), "2x3:103254");
  EXPECT_EQ(reds(3), "2x3:543210");
  EXPECT_EQ(reds(4), "2x3:452301");
  EXPECT_EQ(reds(5), "3x2:024135");
  EXPECT_EQ(reds(6), "3x2:420531");
  EXPECT_EQ(reds(7), "3x2:531420");
  EXPECT_EQ(reds(8), "3x2:135024");
  EXPECT_EQ(reds(9), "2x3:012345");
}

}  // namespace
}  // namespace tandem::image
