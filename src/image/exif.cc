#include "image/exif.h"

#include <cstdint>
#include <cstring>
#include <utility>

namespace tandem::image {
namespace {

using Bytes = std::span<const std::byte>;

std::uint32_t byte_at(Bytes b, std::size_t i) {
  return std::to_integer<std::uint32_t>(b[i]);
}

std::uint32_t big16(Bytes b, std::size_t i) {
  return byte_at(b, i) << 8 | byte_at(b, i + 1);
}
std::uint32_t big32(Bytes b, std::size_t i) {
  return big16(b, i) << 16 | big16(b, i + 2);
}
std::uint32_t little16(Bytes b, std::size_t i) {
  return byte_at(b, i) | byte_at(b, i + 1) << 8;
}
std::uint32_t little32(Bytes b, std::size_t i) {
  return little16(b, i) | little16(b, i + 2) << 16;
}

bool starts_with(Bytes b, std::string_view prefix) {
  return b.size() >= prefix.size() && std::memcmp(b.data(), prefix.data(), prefix.size()) == 0;
}

std::string_view text_of(Bytes b) {
  return {reinterpret_cast<const char*>(b.data()), b.size()};
}

/// The tag in a TIFF block, 0 if absent. `tiff` begins with the byte order mark.
int orientation_in_tiff(Bytes tiff) {
  while (starts_with(tiff, {"Exif\0\0", 6})) tiff = tiff.subspan(6);
  if (tiff.size() < 8) return 0;
  const bool little = starts_with(tiff, "II");
  if (!little && !starts_with(tiff, "MM")) return 0;
  const auto u16 = [&](std::size_t i) { return little ? little16(tiff, i) : big16(tiff, i); };
  const auto u32 = [&](std::size_t i) { return little ? little32(tiff, i) : big32(tiff, i); };
  constexpr std::uint32_t kTiff = 42;
  if (u16(2) != kTiff) return 0;
  const std::size_t directory = u32(4);
  if (directory + 2 > tiff.size()) return 0;
  const std::size_t entries = u16(directory);
  for (std::size_t i = 0; i < entries; ++i) {
    const std::size_t at = directory + 2 + 12 * i;
    if (at + 12 > tiff.size()) return 0;
    if (u16(at) != 0x0112) continue;
    const std::uint32_t type = u16(at + 2), count = u32(at + 4);
    if (count != 1) return 0;
    constexpr std::uint32_t kByte = 1, kShort = 3, kLong = 4;
    const std::uint32_t value = type == kByte    ? byte_at(tiff, at + 8)
                                : type == kShort ? u16(at + 8)
                                : type == kLong  ? u32(at + 8)
                                                 : 0;
    // A present tag with a senseless value still hides the one in XMP, as in Pillow.
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 0;
}

/// The first tiff:Orientation="N" or tiff:Orientation>N in an XMP packet, 0 if absent.
int orientation_in_xmp(std::string_view xmp) {
  constexpr std::string_view kTag = "tiff:Orientation";
  for (std::size_t at = xmp.find(kTag); at != xmp.npos; at = xmp.find(kTag, at + 1)) {
    std::string_view rest = xmp.substr(at + kTag.size());
    if (rest.starts_with("=\"")) {
      rest.remove_prefix(2);
    } else if (rest.starts_with(">")) {
      rest.remove_prefix(1);
    } else {
      continue;
    }
    if (!rest.empty() && rest[0] >= '0' && rest[0] <= '9') return rest[0] - '0';
  }
  return 0;
}

struct Metadata {
  Bytes exif;
  Bytes xmp;
};

Metadata in_jpeg(Bytes b) {
  Metadata found;
  for (std::size_t i = 2; i + 4 <= b.size();) {
    if (byte_at(b, i) != 0xFF) {
      ++i;
      continue;
    }
    const std::uint32_t marker = byte_at(b, i + 1);
    if (marker == 0xFF) {  // padding
      ++i;
      continue;
    }
    if (marker == 0x00 || marker == 0x01 || (marker >= 0xD0 && marker <= 0xD8)) {  // no payload
      i += 2;
      continue;
    }
    if (marker == 0xDA || marker == 0xD9) break;  // pixels, or the end
    const std::size_t length = big16(b, i + 2);
    if (length < 2 || i + 2 + length > b.size()) break;
    const Bytes payload = b.subspan(i + 4, length - 2);
    constexpr std::string_view kXmp{"http://ns.adobe.com/xap/1.0/\0", 29};
    if (marker == 0xE1) {
      if (found.exif.empty() && starts_with(payload, {"Exif\0\0", 6})) found.exif = payload.subspan(6);
      if (starts_with(payload, kXmp)) found.xmp = payload.subspan(kXmp.size());
    }
    i += 2 + length;
  }
  return found;
}

Metadata in_png(Bytes b) {
  Metadata found;
  for (std::size_t i = 8; i + 12 <= b.size();) {
    const std::size_t length = big32(b, i);
    if (length > b.size() - i - 12) break;
    const std::string_view type = text_of(b.subspan(i + 4, 4));
    const Bytes payload = b.subspan(i + 8, length);
    constexpr std::string_view kXmp{"XML:com.adobe.xmp\0", 18};
    if (type == "eXIf") found.exif = payload;
    if (type == "iTXt" && starts_with(payload, kXmp)) found.xmp = payload.subspan(kXmp.size());
    if (type == "IEND") break;
    i += 12 + length;
  }
  return found;
}

Metadata in_webp(Bytes b) {
  Metadata found;
  for (std::size_t i = 12; i + 8 <= b.size();) {
    const std::size_t length = little32(b, i + 4);
    if (length > b.size() - i - 8) break;
    const std::string_view type = text_of(b.subspan(i, 4));
    if (type == "EXIF") found.exif = b.subspan(i + 8, length);
    if (type == "XMP ") found.xmp = b.subspan(i + 8, length);
    i += 8 + length + (length & 1);
  }
  return found;
}

}  // namespace

int orientation_of(std::string_view format, Bytes bytes) noexcept {
  Metadata found;
  if (format == "jpeg") found = in_jpeg(bytes);
  if (format == "png") found = in_png(bytes);
  if (format == "webp") found = in_webp(bytes);
  int orientation = orientation_in_tiff(found.exif);
  if (orientation == 0) orientation = orientation_in_xmp(text_of(found.xmp));
  return orientation >= 2 && orientation <= 8 ? orientation : 1;
}

Image upright(Image image, int orientation) {
  if (orientation < 2 || orientation > 8) return image;
  const std::int64_t w = image.width, h = image.height;
  const bool swap = orientation >= 5;
  Image out;
  out.width = static_cast<int>(swap ? h : w);
  out.height = static_cast<int>(swap ? w : h);
  out.pixels.resize(image.pixels.size());
  // The source of output pixel (x, y) is an affine walk: start + x * step_x + y * step_y, counted in pixels.
  std::int64_t start = 0, step_x = 0, step_y = 0;
  switch (orientation) {
    case 2: start = w - 1, step_x = -1, step_y = w; break;        // mirrored
    case 3: start = w * h - 1, step_x = -1, step_y = -w; break;   // turned by 180 degrees
    case 4: start = w * (h - 1), step_x = 1, step_y = -w; break;  // upside down
    case 5: start = 0, step_x = w, step_y = 1; break;             // transposed
    case 6: start = w * (h - 1), step_x = -w, step_y = 1; break;  // to be turned clockwise
    case 7: start = w * h - 1, step_x = -w, step_y = -1; break;   // transposed along the other diagonal
    case 8: start = w - 1, step_x = w, step_y = -1; break;        // to be turned anticlockwise
  }
  std::uint8_t* to = out.pixels.data();
  for (std::int64_t y = 0; y < out.height; ++y) {
    std::int64_t from = start + y * step_y;
    for (std::int64_t x = 0; x < out.width; ++x, from += step_x, to += 3) {
      std::memcpy(to, image.pixels.data() + 3 * from, 3);
    }
  }
  return out;
}

}  // namespace tandem::image
