// Encoded pictures to RGB, pixel for pixel what Pillow 13's Image.open(…).convert("RGB") gives.
//
// JPEG (baseline, progressive, grey, CMYK and YCCK), PNG (all depths), WebP, BMP and GIF (first frame of each). Alpha
// and transparent colours are dropped, not blended, as convert("RGB") does; gamma and colour profiles are ignored.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "image/image.h"

namespace tandem::image {

/// What to do with the camera's orientation tag: turn the picture upright (PIL.ImageOps.exif_transpose, which is what
/// transformers.load_image does), or leave the pixels as stored (what open_clip does).
enum class Exif { apply, ignore };

struct DecodeLimits {
  /// Width times height, read from the header before anything is allocated. The default is where Pillow itself stops
  /// with a DecompressionBombError (twice its MAX_IMAGE_PIXELS): at most 0.5 GB of RGB.
  std::uint64_t max_pixels = 178'956'970;
  std::uint64_t max_bytes = 256ull << 20;  ///< size of the encoded picture
};

struct DecodeOptions {
  Exif exif = Exif::apply;
  DecodeLimits limits;
  /// Opt-in, NOT bit-exact: JPEGs are decoded at the smallest of 1/8, 2/8 … 8/8 of their size whose shorter side is
  /// still ≥ target_side. Faster for large pictures; every other format ignores it.
  bool dct_scaled = false;
  int target_side = 0;  ///< pixels; only read with dct_scaled
};

/// Decodes one picture. Thread-safe. Throws Error: bad_data (unknown format, corrupt, truncated, empty), too_large (a
/// limit is exceeded; the message has both numbers), unsupported (a valid file of a kind that is not read).
Image decode(std::span<const std::byte> bytes, const DecodeOptions& options);

/// A picture with its transparency, to be put onto something: RGBA, interleaved, colours not multiplied by alpha.
struct Drawing {
  int width = 0, height = 0;       ///< pixels
  std::vector<std::uint8_t> rgba;  ///< [height, width, 4]
};

/// A still WebP with its alpha; 255 where it has none. Throws as decode().
Drawing decode_drawing(std::span<const std::byte> bytes, const DecodeLimits& limits = {});

/// "jpeg", "png", "webp", "bmp", "gif", or "" if the first bytes are none of these.
std::string_view sniff_format(std::span<const std::byte> bytes) noexcept;

}  // namespace tandem::image
