// A decoded picture on the host: what every decoder of this folder produces and what fit() consumes.
#pragma once

#include <cstdint>
#include <vector>

namespace tandem::image {

struct Image {
  int width = 0;                     ///< pixels, ≥ 1 once decoded
  int height = 0;                    ///< pixels, ≥ 1 once decoded
  std::vector<std::uint8_t> pixels;  ///< RGB, interleaved, [height, width, 3], no padding between rows
};

/// Somebody else's pixels: RGB, interleaved, `row_stride` bytes from one row to the next. Never owns.
struct HostPixels {
  const std::uint8_t* data = nullptr;
  int width = 0;
  int height = 0;
  std::int64_t row_stride = 0;  ///< bytes, ≥ 3 * width

  HostPixels() = default;
  HostPixels(const std::uint8_t* rgb, int w, int h, std::int64_t stride)
      : data(rgb), width(w), height(h), row_stride(stride) {}
  HostPixels(const Image& image)  // NOLINT(google-explicit-constructor): a view of a picture is a picture
      : data(image.pixels.data()), width(image.width), height(image.height), row_stride(3LL * image.width) {}
};

}  // namespace tandem::image
