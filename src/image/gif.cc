// The first frame of a GIF through giflib, on a canvas as large as Pillow makes it.
#include <gif_lib.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <vector>

#include "base/strings.h"
#include "image/formats.h"
#include "tandem/error.h"

namespace tandem::image {
namespace {

struct GifCloser {
  void operator()(GifFileType* gif) const {
    int ignored = 0;
    DGifCloseFile(gif, &ignored);
  }
};

[[noreturn]] void damaged(int error) {
  const char* text = GifErrorString(error);
  throw Error(Code::bad_data, cat("GIF is damaged or truncated: ", text != nullptr ? text : "unknown error"));
}

int on_read(GifFileType* gif, GifByteType* to, int count) {
  auto& rest = *static_cast<std::span<const std::byte>*>(gif->UserData);
  const std::size_t n = std::min(rest.size(), static_cast<std::size_t>(std::max(count, 0)));
  std::memcpy(to, rest.data(), n);
  rest = rest.subspan(n);
  return static_cast<int>(n);
}

/// True if entry i is the grey (i, i, i) throughout: Pillow then takes the indices themselves as grey values.
bool is_grey_ramp(const ColorMapObject& map) {
  for (int i = 0; i < map.ColorCount; ++i) {
    const GifColorType& c = map.Colors[i];
    if (c.Red != i || c.Green != i || c.Blue != i) return false;
  }
  return true;
}

/// RGB of every index. Indices beyond a colour table are black, as in Pillow; without one, or with grey ramps only,
/// they are greys.
std::array<std::uint8_t, 768> palette_of(const GifFileType& gif) {
  const ColorMapObject* map = gif.Image.ColorMap != nullptr ? gif.Image.ColorMap : gif.SColorMap;
  // A quirk kept on purpose: a local grey ramp over a coloured global table is shown in the global table's colours.
  if (gif.Image.ColorMap != nullptr && is_grey_ramp(*gif.Image.ColorMap) && gif.SColorMap != nullptr) {
    map = gif.SColorMap;
  }
  std::array<std::uint8_t, 768> table{};
  const bool grey = map == nullptr || is_grey_ramp(*map);
  for (std::size_t i = 0; grey && i < table.size(); ++i) table[i] = static_cast<std::uint8_t>(i / 3);
  for (int i = 0; map != nullptr && i < std::min(map->ColorCount, 256); ++i) {
    table[3 * i] = map->Colors[i].Red;
    table[3 * i + 1] = map->Colors[i].Green;
    table[3 * i + 2] = map->Colors[i].Blue;
  }
  return table;
}

}  // namespace

Image decode_gif(std::span<const std::byte> bytes, const DecodeLimits& limits) {
  std::span<const std::byte> rest = bytes;
  int error = 0;
  const std::unique_ptr<GifFileType, GifCloser> gif(DGifOpen(&rest, on_read, &error));
  if (gif == nullptr) damaged(error);

  // Until the first picture; a graphic control extension in front of it may name the transparent index.
  int transparent = -1;
  for (;;) {
    GifRecordType type = UNDEFINED_RECORD_TYPE;
    if (DGifGetRecordType(gif.get(), &type) == GIF_ERROR) damaged(gif->Error);
    if (type == IMAGE_DESC_RECORD_TYPE) break;
    if (type == TERMINATE_RECORD_TYPE) throw Error(Code::bad_data, "GIF holds no picture");
    if (type != EXTENSION_RECORD_TYPE) continue;
    int code = 0;
    GifByteType* block = nullptr;
    if (DGifGetExtension(gif.get(), &code, &block) == GIF_ERROR) damaged(gif->Error);
    if (code == GRAPHICS_EXT_FUNC_CODE && block != nullptr && block[0] >= 4 && (block[1] & 1) != 0) {
      transparent = block[4];
    }
    while (block != nullptr) {
      if (DGifGetExtensionNext(gif.get(), &block) == GIF_ERROR) damaged(gif->Error);
    }
  }
  if (DGifGetImageHeader(gif.get()) == GIF_ERROR) damaged(gif->Error);

  const GifImageDesc& frame = gif->Image;
  if (frame.Width <= 0 || frame.Height <= 0) throw Error(Code::bad_data, "GIF frame is empty: the file is damaged");
  const auto right = static_cast<std::uint64_t>(frame.Left) + static_cast<std::uint64_t>(frame.Width);
  const auto bottom = static_cast<std::uint64_t>(frame.Top) + static_cast<std::uint64_t>(frame.Height);
  const std::uint64_t width = std::max<std::uint64_t>(right, static_cast<std::uint64_t>(gif->SWidth));
  const std::uint64_t height = std::max<std::uint64_t>(bottom, static_cast<std::uint64_t>(gif->SHeight));
  check_size("GIF", width, height, limits);

  const auto palette = palette_of(*gif);
  Image image = make_image(width, height);
  const std::uint8_t* background = palette.data() + 3 * std::max(transparent, 0);
  const bool whole = right - static_cast<std::uint64_t>(frame.Left) == width &&
                     bottom - static_cast<std::uint64_t>(frame.Top) == height;
  for (std::size_t i = 0; !whole && i < image.pixels.size(); i += 3) std::memcpy(&image.pixels[i], background, 3);

  std::vector<GifPixelType> line(static_cast<std::size_t>(frame.Width));
  const auto read_line = [&](int y) {
    if (DGifGetLine(gif.get(), line.data(), frame.Width) == GIF_ERROR) damaged(gif->Error);
    std::uint8_t* to = image.pixels.data() + 3 * ((static_cast<std::size_t>(frame.Top) + y) * width + frame.Left);
    for (const GifPixelType index : line) {
      std::memcpy(to, palette.data() + 3 * index, 3);
      to += 3;
    }
  };
  if (frame.Interlace) {
    constexpr int kPasses[4][2] = {{0, 8}, {4, 8}, {2, 4}, {1, 2}};  // first row, step
    for (const auto& pass : kPasses) {
      for (int y = pass[0]; y < frame.Height; y += pass[1]) read_line(y);
    }
  } else {
    for (int y = 0; y < frame.Height; ++y) read_line(y);
  }
  return image;
}

}  // namespace tandem::image
