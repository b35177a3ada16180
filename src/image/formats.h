// Inside src/image only: one function per format behind decode(). None of them looks at the orientation tag.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "image/decode.h"

namespace tandem::image {

Image decode_jpeg(std::span<const std::byte> bytes, const DecodeOptions& options);
Image decode_png(std::span<const std::byte> bytes, const DecodeLimits& limits);
Image decode_webp(std::span<const std::byte> bytes, const DecodeLimits& limits);
Image decode_bmp(std::span<const std::byte> bytes, const DecodeLimits& limits);
Image decode_gif(std::span<const std::byte> bytes, const DecodeLimits& limits);

/// Throws bad_data if a side is zero, too_large if width * height exceeds the limit. `format` begins the message.
void check_size(std::string_view format, std::uint64_t width, std::uint64_t height, const DecodeLimits& limits);

/// Throws bad_data if there is nothing, too_large if there are more bytes than the limit.
void check_bytes(std::span<const std::byte> bytes, const DecodeLimits& limits);

/// An Image of that size with zeroed pixels; the size has passed check_size().
Image make_image(std::uint64_t width, std::uint64_t height);

}  // namespace tandem::image
