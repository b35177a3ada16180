#include "image/decode.h"

#include <cstring>
#include <limits>
#include <utility>

#include "base/strings.h"
#include "image/exif.h"
#include "image/formats.h"
#include "tandem/error.h"

namespace tandem::image {

std::string_view sniff_format(std::span<const std::byte> bytes) noexcept {
  const auto at = [&](std::size_t offset, std::string_view magic) {
    return bytes.size() >= offset + magic.size() && std::memcmp(bytes.data() + offset, magic.data(), magic.size()) == 0;
  };
  if (at(0, "\xFF\xD8\xFF")) return "jpeg";
  if (at(0, "\x89PNG\r\n\x1A\n")) return "png";
  if (at(0, "RIFF") && at(8, "WEBP")) return "webp";
  if (at(0, "GIF87a") || at(0, "GIF89a")) return "gif";
  if (at(0, "BM")) return "bmp";
  return "";
}

void check_bytes(std::span<const std::byte> bytes, const DecodeLimits& limits) {
  if (bytes.empty()) throw Error(Code::bad_data, "image is empty (0 bytes): give the complete file");
  if (bytes.size() > limits.max_bytes) {
    throw Error(Code::too_large, cat("image has ", bytes.size(), " bytes, the limit is ", limits.max_bytes,
                                     ": shrink it or raise the limit"));
  }
}

void check_size(std::string_view format, std::uint64_t width, std::uint64_t height, const DecodeLimits& limits) {
  if (width == 0 || height == 0) {
    throw Error(Code::bad_data, cat(format, " header says ", width, "x", height, " pixels: the file is damaged"));
  }
  constexpr std::uint64_t kMaxSide = std::numeric_limits<int>::max() / 4;
  if (width > kMaxSide || height > kMaxSide || width > limits.max_pixels / height) {
    throw Error(Code::too_large, cat(format, " image is ", width, "x", height, ", the limit is ", limits.max_pixels,
                                     " pixels: shrink it or raise the limit"));
  }
}

Image make_image(std::uint64_t width, std::uint64_t height) {
  Image image;
  image.width = static_cast<int>(width);
  image.height = static_cast<int>(height);
  image.pixels.resize(width * height * 3);
  return image;
}

Image decode(std::span<const std::byte> bytes, const DecodeOptions& options) {
  check_bytes(bytes, options.limits);
  const std::string_view format = sniff_format(bytes);
  Image image;
  if (format == "jpeg") {
    image = decode_jpeg(bytes, options);
  } else if (format == "png") {
    image = decode_png(bytes, options.limits);
  } else if (format == "webp") {
    image = decode_webp(bytes, options.limits);
  } else if (format == "bmp") {
    image = decode_bmp(bytes, options.limits);
  } else if (format == "gif") {
    image = decode_gif(bytes, options.limits);
  } else {
    throw Error(Code::bad_data,
                cat("image of ", bytes.size(), " bytes is in no known format: give JPEG, PNG, WebP, BMP or GIF"));
  }
  if (options.exif == Exif::apply) image = upright(std::move(image), orientation_of(format, bytes));
  return image;
}

}  // namespace tandem::image
