// The Decoder interface: three kinds of input, streaming with the same bits, one decoder for many threads.
#include "image/decoder.h"

#include <gtest/gtest.h>

#include <thread>

#include "image_testing.h"
#include "tandem/error.h"

namespace tandem::image {
namespace {

using testing::golden_path;
using testing::read_bytes;

FitOptions small(Reference reference, int side) {
  FitOptions o;
  o.reference = reference;
  o.resize_height = o.resize_width = o.crop_height = o.crop_width = side;
  return o;
}

// Streaming leaves out columns and rows outside the crop: the pixels must not notice, however little is left.
TEST(CpuDecoder, StreamingGivesTheBitsOfDecodeThenFit) {
  const CpuDecoder decoder;
  for (const char* name : {"rgb_444.jpg", "rgb_422.jpg", "rgb_420.jpg", "rgb_440.jpg", "rgb_411.jpg", "rgb_114.jpg",
                           "rgb_progressive.jpg", "rgb_restart.jpg", "grey.jpg", "cmyk.jpg", "ycck.jpg", "wide.jpg",
                           "tall.jpg", "tall_progressive.jpg", "exif_6.jpg", "size_17x9.jpg"}) {
    const auto bytes = read_bytes(golden_path(name));
    const Image image = decode(bytes, DecodeOptions{});
    for (const int side : {1, 3, 8, 16, 17, 33, 57, 64, 96}) {
      for (const bool resize : {false, true}) {
        FitOptions o = small(Reference::hf, side);
        o.do_resize = resize;
        std::vector<std::uint8_t> want(3 * static_cast<std::size_t>(side) * side), got(want.size());
        fit(image, o, want);
        decoder.decode(EncodedImage{bytes}, DecodeOptions{}, o, got);
        EXPECT_EQ(got, want) << name << " side " << side << (resize ? " resized" : " cropped");
      }
    }
  }
}

TEST(CpuDecoder, DamageOutsideTheCropIsStillAnError) {
  const auto bytes = read_bytes(golden_path("tall.jpg"));
  FitOptions o = small(Reference::hf, 20);
  o.do_resize = false;  // reads the rows in the middle
  std::vector<std::uint8_t> out(3 * 20 * 20);
  const CpuDecoder decoder;
  decoder.decode(EncodedImage{bytes}, DecodeOptions{}, o, out);
  EXPECT_THROW(decoder.decode(EncodedImage{std::span(bytes).first(bytes.size() * 9 / 10)}, DecodeOptions{}, o, out),
               Error);
}

TEST(CpuDecoder, TakesHostPixelsAndRefusesDevicePixels) {
  const CpuDecoder decoder;
  const Image image = testing::grid(70, 50);
  const FitOptions o = small(Reference::hf_fast, 32);
  std::vector<std::uint8_t> want(3 * 32 * 32), got(want.size());
  fit(image, o, want);
  decoder.decode(HostPixels(image), DecodeOptions{}, o, got);
  EXPECT_EQ(got, want);
  EXPECT_EQ(decoder.size(HostPixels(image), DecodeOptions{}, o), (Size{32, 32}));
  try {
    decoder.decode(DevicePixels{&image, 70, 50, 210, 0}, DecodeOptions{}, o, got);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::unsupported);
  }
}

TEST(CpuDecoder, ForcesAnInstructionSet) {
  EXPECT_EQ(CpuDecoder(Isa::scalar).isa(), Isa::scalar);
  EXPECT_EQ(CpuDecoder().isa(), best_isa());
  for (const Isa isa : {Isa::avx2, Isa::avx512}) {
    if (isa_available(isa)) {
      EXPECT_EQ(CpuDecoder(isa).isa(), isa);
    } else {
      EXPECT_THROW(CpuDecoder{isa}, Error);
    }
  }
}

TEST(CpuDecoder, OneServesManyThreads) {
  const CpuDecoder decoder;
  const auto jpeg = read_bytes(golden_path("rgb_420.jpg")), png = read_bytes(golden_path("rgba16_interlaced.png"));
  const FitOptions o = small(Reference::hf_fast, 64);
  std::vector<std::uint8_t> want[2] = {std::vector<std::uint8_t>(3 * 64 * 64), std::vector<std::uint8_t>(3 * 64 * 64)};
  decoder.decode(EncodedImage{jpeg}, DecodeOptions{}, o, want[0]);
  decoder.decode(EncodedImage{png}, DecodeOptions{}, o, want[1]);
  int wrong[4] = {};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::vector<std::uint8_t> got(3 * 64 * 64);
      for (int i = 0; i < 50; ++i) {
        decoder.decode(EncodedImage{(i + t) % 2 == 0 ? std::span<const std::byte>(jpeg) : png}, DecodeOptions{}, o,
                       got);
        wrong[t] += got != want[(i + t) % 2];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const int count : wrong) EXPECT_EQ(count, 0);
}

TEST(CpuDecoder, DctScalingIsCloseAndOptIn) {
  const auto bytes = read_bytes(golden_path("wide.jpg"));  // 401 x 97
  DecodeOptions fast;
  fast.dct_scaled = true;
  fast.target_side = 40;
  const Image scaled = decode(bytes, fast);
  EXPECT_EQ(scaled.height, 49);  // 4/8: 3/8 would be below 40
  EXPECT_EQ(scaled.width, 201);
  fast.target_side = 90;
  EXPECT_EQ(decode(bytes, fast).height, 97);
  fast.target_side = 40;
  const FitOptions o = small(Reference::hf, 40);
  std::vector<std::uint8_t> exact(3 * 40 * 40), quick(exact.size());
  const CpuDecoder decoder;
  decoder.decode(EncodedImage{bytes}, DecodeOptions{}, o, exact);
  decoder.decode(EncodedImage{bytes}, fast, o, quick);
  double difference = 0;
  for (std::size_t i = 0; i < exact.size(); ++i) difference += std::abs(int{exact[i]} - int{quick[i]});
  EXPECT_GT(difference, 0);
  EXPECT_LT(difference / static_cast<double>(exact.size()), 6);
}

}  // namespace
}  // namespace tandem::image
