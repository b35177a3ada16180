// Windows and OS/2 bitmaps. No packaged library reads them; the subset and its odd corners are those of Pillow's
// BmpImagePlugin (1, 4, 8 bits with a palette, RLE4, RLE8, 16, 24 and 32 bits, bit fields in the usual layouts).
#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "base/strings.h"
#include "image/formats.h"
#include "tandem/error.h"

namespace tandem::image {
namespace {

using Bytes = std::span<const std::byte>;

constexpr std::uint32_t kRaw = 0, kRle8 = 1, kRle4 = 2, kBitFields = 3;

std::uint8_t u8(Bytes b, std::size_t i) {
  if (i >= b.size()) throw Error(Code::bad_data, "BMP is truncated: give the complete file");
  return std::to_integer<std::uint8_t>(b[i]);
}
std::uint32_t u16(Bytes b, std::size_t i) {
  return u8(b, i) | static_cast<std::uint32_t>(u8(b, i + 1)) << 8;
}
std::uint32_t u32(Bytes b, std::size_t i) {
  return u16(b, i) | u16(b, i + 2) << 16;
}

struct Header {
  std::uint64_t width = 0, height = 0;
  bool top_down = false;
  std::uint32_t bits = 0, compression = kRaw;
  std::size_t pixels_at = 0;
  std::array<std::uint32_t, 4> masks{};  // red, green, blue, alpha; only with kBitFields
  std::array<std::uint8_t, 768> palette{};
};

/// The palette of `colors` entries at `at`. What it leaves out is black, as in Pillow; where all that is there is the
/// grey of its own index, Pillow takes the pixels for greys, and the rest continues so.
void read_palette(Bytes b, std::size_t at, std::size_t entry, std::uint64_t colors, Header& h) {
  bool grey = true;
  for (std::size_t i = 0; i < std::min<std::uint64_t>(colors, 256); ++i) {
    const std::size_t from = at + i * entry;
    if (from + entry > b.size()) break;
    const std::size_t own = colors == 2 ? 255 * i : i;
    for (std::size_t c = 0; c < 3; ++c) {
      h.palette[3 * i + c] = u8(b, from + 2 - c);  // stored blue, green, red
      grey = grey && h.palette[3 * i + c] == own;
    }
  }
  const std::size_t step = colors <= 2 ? 255 : 1;
  for (std::size_t i = 3 * colors; grey && i < h.palette.size(); ++i) {
    h.palette[i] = static_cast<std::uint8_t>(std::min<std::size_t>(i / 3 * step, 255));
  }
}

Header read_header(Bytes b) {
  Header h;
  h.pixels_at = u32(b, 10);
  const std::uint32_t size = u32(b, 14);
  std::size_t entry = 4;
  std::uint64_t colors = 0;
  std::size_t next = 14 + size;  // what follows the header: masks, then the palette
  if (size == 12) {
    h.width = u16(b, 18);
    h.height = u16(b, 20);
    h.bits = u16(b, 24);
    entry = 3;
  } else if (size == 40 || size == 52 || size == 56 || size == 64 || size == 108 || size == 124) {
    h.top_down = u8(b, 25) == 0xFF;
    h.width = u32(b, 18);
    h.height = h.top_down ? (1ull << 32) - u32(b, 22) : u32(b, 22);
    h.bits = u16(b, 28);
    h.compression = u32(b, 30);
    colors = u32(b, 46);
    if (h.compression == kBitFields) {
      const std::size_t masks = size >= 56 ? 4 : 3;  // 52-byte headers and shorter ones have no alpha
      for (std::size_t i = 0; i < masks; ++i) h.masks[i] = u32(b, 54 + 4 * i);
      if (size == 40) next += 12;
    }
  } else {
    throw Error(Code::unsupported, cat("BMP header of ", size, " bytes is of no known kind"));
  }
  if (colors == 0) colors = 1ull << std::min<std::uint32_t>(h.bits, 32);
  if (h.pixels_at == 14 + size && h.bits <= 8) h.pixels_at += entry * colors;
  if (h.bits <= 8) {
    if (colors > 65536) throw Error(Code::bad_data, cat("BMP palette has ", colors, " entries: the file is damaged"));
    read_palette(b, next, entry, colors, h);
    next += entry * colors;
  }
  if (h.pixels_at == 0) h.pixels_at = next;
  return h;
}

/// Indices, row by row in file order, as Pillow's run-length decoder produces them, including what it does with runs
/// and jumps that leave the picture.
std::vector<std::uint8_t> unpack_runs(Bytes b, const Header& h) {
  const std::size_t width = h.width, wanted = width * h.height;
  const bool four = h.compression == kRle4;
  std::vector<std::uint8_t> data;
  std::size_t at = h.pixels_at, x = 0;
  while (data.size() < wanted && at + 2 <= b.size()) {
    const std::size_t count = u8(b, at);
    const std::uint8_t value = u8(b, at + 1);
    at += 2;
    if (count > 0) {  // a run, cut at the row's end
      const std::size_t n = x + count > width ? (width > x ? width - x : 0) : count;
      for (std::size_t i = 0; i < n; ++i) {
        data.push_back(!four ? value : i % 2 == 0 ? value >> 4 : value & 15);
      }
      x += n;
    } else if (value == 0) {  // end of row
      data.resize((data.size() + width - 1) / width * width);
      x = 0;
    } else if (value == 1) {  // end of picture
      break;
    } else if (value == 2) {  // jump
      if (at + 2 > b.size()) break;
      const std::size_t jump = u8(b, at) + u8(b, at + 1) * width;
      at += 2;
      data.resize(data.size() + std::min(wanted - data.size(), jump));
      x = data.size() % width;
    } else {  // literal indices, padded to a 16-bit boundary of the file
      const std::size_t n = std::min<std::size_t>(wanted - data.size(), value);
      const std::size_t bytes = four ? (n + 1) / 2 : n;
      if (at + bytes > b.size()) break;
      for (std::size_t i = 0; i < n; ++i) {
        const std::uint8_t byte = u8(b, at + (four ? i / 2 : i));
        data.push_back(!four ? byte : i % 2 == 0 ? byte >> 4 : byte & 15);
      }
      at += bytes;
      if (data.size() == wanted) break;
      x += value;
      at += at % 2;
    }
  }
  if (data.size() < wanted) throw Error(Code::bad_data, "BMP is truncated: its runs end before the picture does");
  return data;
}

/// Byte offsets of red, green and blue in a 24- or 32-bit pixel, or unsupported.
std::array<int, 3> byte_order(const Header& h) {
  if (h.compression == kRaw) return {2, 1, 0};
  struct Layout {
    std::array<std::uint32_t, 4> masks;
    std::array<int, 3> order;
  };
  static constexpr Layout kLayouts[] = {
      {{0xFF0000, 0xFF00, 0xFF, 0}, {2, 1, 0}},          {{0xFF000000, 0xFF0000, 0xFF00, 0}, {3, 2, 1}},
      {{0xFF000000, 0xFF00, 0xFF, 0}, {3, 1, 0}},        {{0xFF000000, 0xFF0000, 0xFF00, 0xFF}, {3, 2, 1}},
      {{0xFF, 0xFF00, 0xFF0000, 0xFF000000}, {0, 1, 2}}, {{0xFF0000, 0xFF00, 0xFF, 0xFF000000}, {2, 1, 0}},
      {{0xFF000000, 0xFF00, 0xFF, 0xFF0000}, {3, 1, 0}}, {{0, 0, 0, 0}, {2, 1, 0}},
  };
  for (const Layout& layout : kLayouts) {
    const bool same = std::equal(layout.masks.begin(), layout.masks.begin() + 3, h.masks.begin());
    if (h.bits == 24 && same && layout.masks[0] == 0xFF0000) return {2, 1, 0};
    if (h.bits == 32 && layout.masks == h.masks) return layout.order;
  }
  throw Error(Code::unsupported, cat("BMP of ", h.bits, " bits has unusual bit fields: save it as 24 bits"));
}

}  // namespace

Image decode_bmp(Bytes bytes, const DecodeLimits& limits) {
  const Header h = read_header(bytes);
  check_size("BMP", h.width, h.height, limits);
  if (h.bits != 1 && h.bits != 4 && h.bits != 8 && h.bits != 16 && h.bits != 24 && h.bits != 32) {
    throw Error(Code::unsupported, cat("BMP of ", h.bits, " bits per pixel is not read: save it as 24 bits"));
  }
  if (h.compression > kBitFields || (h.compression == kBitFields && h.bits < 16) ||
      (h.compression == kRle8 && h.bits != 8) || (h.compression == kRle4 && h.bits != 4)) {
    throw Error(Code::unsupported,
                cat("BMP compression ", h.compression, " with ", h.bits, " bits is not read: save it uncompressed"));
  }
  bool green6 = false;
  std::array<int, 3> order{};
  if (h.bits == 16 && h.compression == kBitFields) {
    green6 = h.masks[0] == 0xF800 && h.masks[1] == 0x7E0 && h.masks[2] == 0x1F;
    if (!green6 && !(h.masks[0] == 0x7C00 && h.masks[1] == 0x3E0 && h.masks[2] == 0x1F)) {
      throw Error(Code::unsupported, "BMP of 16 bits has unusual bit fields: save it as 24 bits");
    }
  } else if (h.bits >= 24) {
    order = byte_order(h);
  }

  std::vector<std::uint8_t> indices;
  const bool runs = h.compression == kRle8 || h.compression == kRle4;
  const std::size_t row_bytes = (h.width * h.bits + 7) / 8, stride = (h.width * h.bits + 31) / 32 * 4;
  if (runs) {
    indices = unpack_runs(bytes, h);
  } else if (h.pixels_at > bytes.size() || (h.height - 1) * stride + row_bytes > bytes.size() - h.pixels_at) {
    throw Error(Code::bad_data, cat("BMP is truncated: ", h.width, "x", h.height, " at ", h.bits, " bits need ",
                                    h.pixels_at + (h.height - 1) * stride + row_bytes, " bytes, found ", bytes.size()));
  }
  Image image = make_image(h.width, h.height);
  const auto* file = reinterpret_cast<const std::uint8_t*>(bytes.data());
  for (std::size_t row = 0; row < h.height; ++row) {
    const std::size_t y = h.top_down ? row : h.height - 1 - row;
    std::uint8_t* to = image.pixels.data() + 3 * y * h.width;
    const std::uint8_t* from = runs ? indices.data() + row * h.width : file + h.pixels_at + row * stride;
    const std::uint32_t bits = runs ? 8 : h.bits;
    for (std::size_t x = 0; x < h.width; ++x, to += 3) {
      if (bits <= 8) {
        const unsigned index = from[x * bits / 8] >> (8 - bits - x * bits % 8) & ((1u << bits) - 1);
        std::memcpy(to, h.palette.data() + 3 * index, 3);
      } else if (bits == 16) {
        const unsigned v = from[2 * x] | static_cast<unsigned>(from[2 * x + 1]) << 8;
        to[0] = static_cast<std::uint8_t>((green6 ? v >> 11 : v >> 10 & 31) * 255 / 31);
        to[1] = static_cast<std::uint8_t>(green6 ? (v >> 5 & 63) * 255 / 63 : (v >> 5 & 31) * 255 / 31);
        to[2] = static_cast<std::uint8_t>((v & 31) * 255 / 31);
      } else {
        const std::uint8_t* pixel = from + x * (bits / 8);
        for (std::size_t c = 0; c < 3; ++c) to[c] = pixel[order[c]];
      }
    }
  }
  return image;
}

}  // namespace tandem::image
