// Every picture of tests/golden/images against what Pillow, torchvision and transformers made of it.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "image/decoder.h"
#include "image_testing.h"

namespace tandem::image {
namespace {

using nlohmann::json;
using testing::checksum;
using testing::golden_path;

const json& manifest() {
  static const json loaded = json::parse(std::ifstream(golden_path("manifest.json")));
  return loaded;
}

FitOptions options_of(const json& fit) {
  FitOptions o;
  o.reference = fit[0] == "hf" ? Reference::hf : fit[0] == "openai" ? Reference::openai : Reference::hf_fast;
  o.resample = fit[1] == "bicubic" ? Resample::bicubic : Resample::bilinear;
  o.crop_height = o.crop_width = fit[2];
  o.do_center_crop = o.crop_height > 0;
  const json& resize = fit[3];
  o.do_resize = !resize.is_null();
  if (o.do_resize) {
    o.mode = resize.size() == 2 ? FitOptions::ResizeMode::exact : FitOptions::ResizeMode::shortest_edge;
    o.resize_height = resize.front();
    o.resize_width = resize.back();
  }
  return o;
}

std::vector<Isa> every_isa() {
  std::vector<Isa> list;
  for (const Isa isa : {Isa::scalar, Isa::avx2, Isa::avx512}) {
    if (isa_available(isa)) list.push_back(isa);
  }
  return list;
}

TEST(Golden, ManifestCoversEveryFormatAndMode) {
  std::set<std::string> modes;
  for (const json& f : manifest()["files"]) {
    const std::string name = f["file"];
    modes.insert(name.substr(name.rfind('.') + 1) + " " + f["mode"].get<std::string>());
  }
  for (const char* wanted :
       {"jpg RGB", "jpg L", "jpg CMYK", "png 1", "png L", "png I;16", "png LA", "png RGB", "png RGBA", "png P",
        "webp RGB", "webp RGBA", "bmp 1", "bmp L", "bmp P", "bmp RGB", "bmp RGBA", "gif P", "gif L"}) {
    EXPECT_TRUE(modes.contains(wanted)) << wanted;
  }
}

TEST(Golden, DecodesAsPillowDoes) {
  for (const json& f : manifest()["files"]) {
    SCOPED_TRACE(f["file"]);
    const auto bytes = testing::read_bytes(golden_path(f["file"]));
    DecodeOptions stored;
    stored.exif = Exif::ignore;
    const Image image = decode(bytes, stored);
    EXPECT_EQ(json({image.width, image.height}), f["size"]);
    EXPECT_EQ(checksum(image.pixels), f["checksum"]);
    const Image turned = decode(bytes, DecodeOptions{});
    EXPECT_EQ(json({turned.width, turned.height}), f["upright_size"]);
    EXPECT_EQ(checksum(turned.pixels), f["upright_checksum"]);
  }
}

TEST(Golden, FitsFilesAsEachReferenceDoes) {
  DecodeOptions stored;
  stored.exif = Exif::ignore;
  for (const Isa isa : every_isa()) {
    const CpuDecoder decoder(isa);
    for (const json& f : manifest()["files"]) {
      const auto bytes = testing::read_bytes(golden_path(f["file"]));
      for (const json& fit : f["fits"]) {
        SCOPED_TRACE(std::string(isa_name(isa)) + " " + f["file"].get<std::string>() + " " + fit.dump());
        const FitOptions options = options_of(fit);
        const Size size = decoder.size(EncodedImage{bytes}, stored, options);
        ASSERT_EQ(json({size.width, size.height}), fit[4]);
        std::vector<std::uint8_t> out(3 * static_cast<std::size_t>(size.width) * size.height);
        decoder.decode(EncodedImage{bytes}, stored, options, out);
        EXPECT_EQ(checksum(out), fit[5]);
      }
    }
  }
}

TEST(Golden, FitsGridsAsEachReferenceDoes) {
  for (const json& g : manifest()["grids"]) {
    const Image image = testing::grid(g["size"][0], g["size"][1]);
    ASSERT_EQ(checksum(image.pixels), g["checksum"]) << g["size"];
    for (const json& fit_case : g["fits"]) {
      const FitOptions options = options_of(fit_case);
      const Size size = fitted_size({image.width, image.height}, options);
      ASSERT_EQ(json({size.width, size.height}), fit_case[4]) << g["size"] << fit_case;
      std::vector<std::uint8_t> out(3 * static_cast<std::size_t>(size.width) * size.height);
      for (const Isa isa : every_isa()) {
        fit(image, options, out, isa);
        EXPECT_EQ(checksum(out), fit_case[5]) << isa_name(isa) << " " << g["size"] << fit_case;
      }
    }
  }
}

// Whole pixels for one case: a failure shows where and by how much, which a checksum cannot.
TEST(Golden, PixelsOfOnePicture) {
  const auto bytes = testing::read_bytes(golden_path("rgb_420.jpg"));
  const auto want = testing::read_bytes(golden_path("rgb_420.hf.56.rgb"));
  FitOptions options;
  options.reference = Reference::hf;
  options.resize_height = options.resize_width = options.crop_height = options.crop_width = 56;
  std::vector<std::uint8_t> out(56 * 56 * 3);
  ASSERT_EQ(want.size(), out.size());
  CpuDecoder().decode(EncodedImage{bytes}, DecodeOptions{}, options, out);
  for (std::size_t i = 0; i < out.size(); ++i) {
    ASSERT_EQ(int{out[i]}, std::to_integer<int>(want[i]))
        << "row " << i / 168 << " column " << i % 168 / 3 << " channel " << i % 3;
  }
}

}  // namespace
}  // namespace tandem::image
