// PNG through libpng, with Pillow's choices: 16-bit colour keeps its high byte, 16-bit grey saturates at 255 (mode
// "I;16"), alpha and transparent colours are dropped, gamma is ignored.
#include <png.h>

#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstring>
#include <string>
#include <vector>

#include "base/strings.h"
#include "image/formats.h"
#include "tandem/error.h"

namespace tandem::image {
namespace {

class PngReader {
 public:
  explicit PngReader(std::span<const std::byte> bytes) : rest_(bytes) {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, on_error, on_warning);
    if (png_ != nullptr) info_ = png_create_info_struct(png_);
    if (info_ == nullptr) {
      png_destroy_read_struct(&png_, nullptr, nullptr);
      throw Error(Code::out_of_memory, "PNG decoder could not be created: free some memory");
    }
  }
  ~PngReader() { png_destroy_read_struct(&png_, &info_, nullptr); }
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;

  // libpng leaves by longjmp: the functions below have no locals that own anything.

  void read_header() {
    if (setjmp(jump_) != 0) fail();
    png_set_read_fn(png_, this, on_read);
    png_set_user_limits(png_, 0x7fffffff, 0x7fffffff);
    // Nothing of these changes a pixel here; left unread they cannot cost time or fail a picture.
    static const png_byte kIgnored[] =
        "gAMA\0cHRM\0sRGB\0iCCP\0sBIT\0bKGD\0hIST\0pHYs\0sPLT\0tIME\0tEXt\0zTXt\0"
        "iTXt\0oFFs\0pCAL\0sCAL\0eXIf\0tRNS";
    png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, kIgnored, (sizeof kIgnored) / 5);
    png_read_info(png_, info_);
    width = png_get_image_width(png_, info_);
    height = png_get_image_height(png_, info_);
    depth = png_get_bit_depth(png_, info_);
    color = png_get_color_type(png_, info_);
    interlaced = png_get_interlace_type(png_, info_) != PNG_INTERLACE_NONE;
    // Passes of a single row are the last ones that have pixels of it.
    last_pass_ = !interlaced ? 0 : height > 1 ? 6 : width > 1 ? 5 : 0;
    png_set_read_user_transform_fn(png_, on_row);
  }

  /// Bytes of one row as read_rows() delivers it: samples of fewer than 8 bits are unpacked to one byte each.
  std::size_t start() {
    if (setjmp(jump_) != 0) fail();
    if (depth < 8) png_set_packing(png_);
    if (interlaced) png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    return png_get_rowbytes(png_, info_);
  }

  void read_row(png_bytep row) {
    if (setjmp(jump_) != 0) fail();
    png_read_row(png_, row, nullptr);
  }

  void read_image(png_bytepp rows) {
    if (setjmp(jump_) != 0) fail();
    png_read_image(png_, rows);
  }

  /// The palette as RGB; entries that the file leaves out are black, as in Pillow.
  std::array<std::uint8_t, 768> palette() {
    std::array<std::uint8_t, 768> table{};
    png_colorp entries = nullptr;
    int count = 0;
    if (png_get_PLTE(png_, info_, &entries, &count) != 0) {
      std::memcpy(table.data(), entries, 3 * static_cast<std::size_t>(std::clamp(count, 0, 256)));
    }
    return table;
  }

  std::uint64_t width = 0, height = 0;
  int depth = 0, color = 0;
  bool interlaced = false;

 private:
  static PngReader* of(png_structp png) { return static_cast<PngReader*>(png_get_error_ptr(png)); }

  static void on_error(png_structp png, png_const_charp message) {
    PngReader* self = of(png);
    std::strncpy(self->message_, message, sizeof self->message_ - 1);
    std::longjmp(self->jump_, 1);
  }

  /// A row has its pixels. libpng unpacks what follows the last one to the stream's end only to throw it away: a few
  /// kilobytes that would take minutes, unless on_read() stops it.
  static void on_row(png_structp png, png_row_infop, png_bytep) {
    PngReader* self = of(png);
    const std::uint64_t behind = png_get_current_row_number(png) + std::uint64_t{self->last_pass_ == 6 ? 2u : 1u};
    self->complete_ = png_get_current_pass_number(png) == self->last_pass_ && behind >= self->height;
  }

  static void on_warning(png_structp, png_const_charp) {}

  static void on_read(png_structp png, png_bytep to, std::size_t count) {
    auto* self = static_cast<PngReader*>(png_get_io_ptr(png));
    if (count > self->rest_.size()) png_error(png, "truncated, give the complete file");
    if (self->complete_) {
      if (count > self->spare_) png_error(png, "its data go on behind the last pixel");
      self->spare_ -= count;
    }
    std::memcpy(to, self->rest_.data(), count);
    self->rest_ = self->rest_.subspan(count);
  }

  [[noreturn]] void fail() { throw Error(Code::bad_data, cat("PNG is damaged: ", message_)); }

  static constexpr std::size_t kSpareBytes = 64 << 10;  // a checksum, the rest of a chunk; some encoders pad

  std::span<const std::byte> rest_;
  bool complete_ = false;
  int last_pass_ = 0;
  std::size_t spare_ = kSpareBytes;  ///< that may be read once the picture is complete
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  std::jmp_buf jump_;
  char message_[128] = {};
};

/// One row of `width` pixels in the file's own layout to RGB.
void row_to_rgb(const PngReader& png, const std::uint8_t* palette, const std::uint8_t* from, std::uint8_t* to) {
  const std::size_t bytes = png.depth == 16 ? 2 : 1;
  const auto grey = [&](std::size_t stride, auto value) {
    for (std::uint64_t x = 0; x < png.width; ++x, from += stride, to += 3) to[0] = to[1] = to[2] = value(from);
  };
  switch (png.color) {
    case PNG_COLOR_TYPE_PALETTE:
      for (std::uint64_t x = 0; x < png.width; ++x, to += 3) std::memcpy(to, palette + 3 * from[x], 3);
      return;
    case PNG_COLOR_TYPE_GRAY: {
      if (png.depth == 16) {  // big endian; anything above 255 is white
        grey(2, [](const std::uint8_t* p) { return p[0] != 0 ? std::uint8_t{255} : p[1]; });
      } else {
        const int scale = 255 / ((1 << png.depth) - 1);
        grey(1, [scale](const std::uint8_t* p) { return static_cast<std::uint8_t>(*p * scale); });
      }
      return;
    }
    case PNG_COLOR_TYPE_GRAY_ALPHA: grey(2 * bytes, [](const std::uint8_t* p) { return p[0]; }); return;
    default: {
      const std::size_t channels = png.color == PNG_COLOR_TYPE_RGB_ALPHA ? 4 : 3;
      for (std::uint64_t x = 0; x < png.width; ++x, from += channels * bytes, to += 3) {
        for (std::size_t c = 0; c < 3; ++c) to[c] = from[c * bytes];
      }
    }
  }
}

}  // namespace

Image decode_png(std::span<const std::byte> bytes, const DecodeLimits& limits) {
  PngReader png(bytes);
  png.read_header();
  check_size("PNG", png.width, png.height, limits);
  Image image = make_image(png.width, png.height);
  const std::size_t row_bytes = png.start();
  const auto palette = png.palette();
  const std::size_t out_bytes = 3 * png.width;
  if (png.color == PNG_COLOR_TYPE_RGB && png.depth == 8) {  // already what we want: no copy
    std::vector<png_bytep> rows(png.height);
    for (std::size_t y = 0; y < rows.size(); ++y) rows[y] = image.pixels.data() + y * out_bytes;
    png.read_image(rows.data());
  } else if (png.interlaced) {
    std::vector<std::uint8_t> raw(row_bytes * png.height);
    std::vector<png_bytep> rows(png.height);
    for (std::size_t y = 0; y < rows.size(); ++y) rows[y] = raw.data() + y * row_bytes;
    png.read_image(rows.data());
    for (std::size_t y = 0; y < rows.size(); ++y) {
      row_to_rgb(png, palette.data(), rows[y], image.pixels.data() + y * out_bytes);
    }
  } else {
    std::vector<std::uint8_t> row(row_bytes);
    for (std::size_t y = 0; y < png.height; ++y) {
      png.read_row(row.data());
      row_to_rgb(png, palette.data(), row.data(), image.pixels.data() + y * out_bytes);
    }
  }
  return image;
}

}  // namespace tandem::image
