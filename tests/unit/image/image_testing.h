// What the image tests share: golden files, a slow resize that is easy to believe, and pictures made by arithmetic.
#pragma once

#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <vector>

#include "image/fit.h"
#include "image/image.h"

namespace tandem::image::testing {

inline std::string golden_path(const std::string& name) {
  return std::string(TANDEM_SOURCE_DIR) + "/tests/golden/images/" + name;
}

inline std::vector<std::byte> read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  std::vector<std::byte> bytes(text.size());
  std::transform(text.begin(), text.end(), bytes.begin(), [](char c) { return static_cast<std::byte>(c); });
  return bytes;
}

/// CRC-32 and Adler-32 in hex, as the manifest has them.
inline std::string checksum(std::span<const std::uint8_t> bytes) {
  const auto size = static_cast<uInt>(bytes.size());
  char text[17];
  std::snprintf(text, sizeof text, "%08lx%08lx", crc32(0, bytes.data(), size), adler32(1, bytes.data(), size));
  return text;
}

/// The pixels that grid() of make_images.py makes.
inline Image grid(int width, int height) {
  Image image{width, height, std::vector<std::uint8_t>(static_cast<std::size_t>(width) * height * 3)};
  std::uint8_t* to = image.pixels.data();
  for (std::uint64_t y = 0; y < static_cast<std::uint64_t>(height); ++y) {
    for (std::uint64_t x = 0; x < static_cast<std::uint64_t>(width); ++x) {
      for (std::uint64_t c = 0; c < 3; ++c) {
        std::uint64_t mixed = x * 2654435761u + y * 40503 * 65537 + c * 97 * 16777619;
        mixed = (mixed ^ (mixed >> 15)) & 0xFFFFFFFFu;
        mixed = (mixed * 2246822519u) & 0xFFFFFFFFu;
        *to++ = static_cast<std::uint8_t>(mixed >> 24);
      }
    }
  }
  return image;
}

/// One pass along one axis by the definition: weights in double, rounded to `bits` fractional bits, summed exactly.
/// `at(i, line)` is the source; bits = 0 means torch's rule (the most that keeps every weight below 2^15).
template <class At>
std::vector<std::uint8_t> resize_axis(int in, int out, int lines, bool bicubic, int bits, At at) {
  const double scale = static_cast<double>(in) / out, wide = std::max(scale, 1.0), reach = (bicubic ? 2 : 1) * wide;
  const auto filter = [&](double x) {
    x = std::fabs(x);
    if (!bicubic) return x < 1 ? 1 - x : 0.0;
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0.0;
  };
  std::vector<int> first(static_cast<std::size_t>(out));
  std::vector<std::vector<double>> weights(static_cast<std::size_t>(out));
  double largest = 0;
  for (int i = 0; i < out; ++i) {
    const double center = (i + 0.5) * scale;
    const int from = std::max(0, static_cast<int>(center - reach + 0.5));
    const int to = std::min(in, static_cast<int>(center + reach + 0.5));
    double sum = 0;
    for (int k = from; k < to; ++k) sum += filter((k - center + 0.5) / wide);
    first[static_cast<std::size_t>(i)] = from;
    for (int k = from; k < to; ++k) {
      weights[static_cast<std::size_t>(i)].push_back(filter((k - center + 0.5) / wide) / sum);
      largest = std::max(largest, weights[static_cast<std::size_t>(i)].back());
    }
  }
  if (bits == 0) {
    while (bits < 22 && std::floor(largest * std::exp2(bits + 1) + 0.5) < 32768) ++bits;
  }
  std::vector<std::uint8_t> result(static_cast<std::size_t>(out) * lines);
  for (int line = 0; line < lines; ++line) {
    for (int i = 0; i < out; ++i) {
      std::int64_t sum = std::int64_t{1} << (bits - 1);
      for (std::size_t k = 0; k < weights[static_cast<std::size_t>(i)].size(); ++k) {
        const double w = weights[static_cast<std::size_t>(i)][k] * std::exp2(bits);
        sum += std::llround(std::trunc(w + (w < 0 ? -0.5 : 0.5))) *
               at(first[static_cast<std::size_t>(i)] + static_cast<int>(k), line);
      }
      result[static_cast<std::size_t>(line) * out + i] =
          static_cast<std::uint8_t>(std::clamp<std::int64_t>(sum >> bits, 0, 255));
    }
  }
  return result;
}

/// The whole picture resized, columns first or rows first, one pass after the other, a pass left out if its size stays.
inline Image slow_resize(Image image, int width, int height, bool bicubic, int bits, bool rows_first) {
  const auto columns = [&] {
    if (image.width == width) return;
    const int w = image.width;
    const auto flat = resize_axis(w, width, image.height * 3, bicubic, bits, [&](int i, int line) {
      return image.pixels[(static_cast<std::size_t>(line / 3) * w + i) * 3 + line % 3];
    });
    Image next{width, image.height, std::vector<std::uint8_t>(flat.size())};
    for (std::size_t n = 0; n < flat.size(); ++n) {
      const std::size_t line = n / width, x = n % width;
      next.pixels[(line / 3 * width + x) * 3 + line % 3] = flat[n];
    }
    image = std::move(next);
  };
  const auto rows = [&] {
    if (image.height == height) return;
    const std::size_t row = static_cast<std::size_t>(image.width) * 3;
    const auto flat = resize_axis(image.height, height, static_cast<int>(row), bicubic, bits, [&](int i, int line) {
      return image.pixels[static_cast<std::size_t>(i) * row + line];
    });
    Image next{image.width, height, std::vector<std::uint8_t>(flat.size())};
    for (std::size_t line = 0; line < row; ++line) {
      for (int y = 0; y < height; ++y) next.pixels[y * row + line] = flat[line * height + y];
    }
    image = std::move(next);
  };
  if (rows_first) rows();
  columns();
  if (!rows_first) rows();
  return image;
}

}  // namespace tandem::image::testing
