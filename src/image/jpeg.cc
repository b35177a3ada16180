#include "image/jpeg.h"

#include <jpeglib.h>

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <vector>

#include "base/strings.h"
#include "image/formats.h"
#include "tandem/error.h"

namespace tandem::image {
namespace {

/// A progressive file may repeat scans of nothing to burn time: a few hundred kilobytes, a quarter of a minute. More
/// scans than kMaxScans are written by no encoder; more than kUsualScans only while the picture is small.
constexpr int kMaxScans = 500, kUsualScans = 32;
constexpr std::uint64_t kMaxScannedPixels = std::uint64_t{1} << 31;

/// What cmyk2rgb of Pillow does to one ink: 255 - k scaled down by the ink's share, rounded.
inline std::uint8_t ink_to_light(int ink, int paper) {
  const int product = ink * paper + 128;
  const int light = paper - ((product + (product >> 8)) >> 8);
  return static_cast<std::uint8_t>(light < 0 ? 0 : light);
}

}  // namespace

struct JpegReader::State {
  jpeg_decompress_struct info{};
  jpeg_error_mgr errors{};
  jpeg_source_mgr source{};
  jpeg_progress_mgr progress{};
  std::jmp_buf jump;
  const char* trouble = nullptr;  // our own message instead of libjpeg's
  Code code = Code::bad_data;
  std::size_t bytes = 0;
  bool cmyk = false;
  std::vector<std::uint8_t> ink_row;

  ~State() { jpeg_destroy_decompress(&info); }

  static State* of(j_common_ptr info) { return static_cast<State*>(info->client_data); }

  [[noreturn]] static void stop(j_common_ptr info) { std::longjmp(of(info)->jump, 1); }

  [[noreturn]] static void stop_with(j_common_ptr info, Code why, const char* message) {
    of(info)->trouble = message;
    of(info)->code = why;
    stop(info);
  }

  [[noreturn]] void fail() {
    if (trouble != nullptr) throw Error(code, cat("JPEG of ", bytes, " bytes ", trouble));
    char text[JMSG_LENGTH_MAX] = {};
    errors.format_message(reinterpret_cast<j_common_ptr>(&info), text);
    throw Error(code, cat("JPEG of ", bytes, " bytes is damaged: ", text));
  }
};

// Every call into libjpeg stands behind one of these: libjpeg leaves by longjmp, which must not pass a destructor, so
// the functions that use it have no locals that own anything.
#define TANDEM_JPEG_GUARD(state)   \
  if (setjmp((state).jump) != 0) { \
    (state).fail();                \
  }

JpegReader::JpegReader(std::span<const std::byte> bytes, const DecodeOptions& options)
    : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.bytes = bytes.size();
  s.info.err = jpeg_std_error(&s.errors);
  s.errors.error_exit = State::stop;
  s.errors.output_message = [](j_common_ptr) {};
  s.info.client_data = &s;
  TANDEM_JPEG_GUARD(s);
  jpeg_create_decompress(&s.info);
  s.info.client_data = &s;

  s.source.next_input_byte = reinterpret_cast<const JOCTET*>(bytes.data());
  s.source.bytes_in_buffer = bytes.size();
  s.source.init_source = [](j_decompress_ptr) {};
  s.source.term_source = [](j_decompress_ptr) {};
  s.source.resync_to_restart = jpeg_resync_to_restart;
  // Pillow fails when libjpeg asks for bytes that are not there; libjpeg's own sources would invent an end marker.
  s.source.fill_input_buffer = [](j_decompress_ptr info) -> boolean {
    State::stop_with(reinterpret_cast<j_common_ptr>(info), Code::bad_data, "is truncated: give the complete file");
  };
  s.source.skip_input_data = [](j_decompress_ptr info, long count) {
    if (count <= 0) return;
    if (static_cast<std::size_t>(count) > info->src->bytes_in_buffer) info->src->fill_input_buffer(info);
    info->src->next_input_byte += count;
    info->src->bytes_in_buffer -= static_cast<std::size_t>(count);
  };
  s.info.src = &s.source;
  s.progress.progress_monitor = [](j_common_ptr info) {
    const auto* const file = reinterpret_cast<j_decompress_ptr>(info);
    const int scans = file->input_scan_number;
    const std::uint64_t pixels = std::uint64_t{file->image_width} * file->image_height;
    if (scans > kMaxScans || (scans > kUsualScans && static_cast<std::uint64_t>(scans) * pixels > kMaxScannedPixels)) {
      State::stop_with(info, Code::too_large, "has more scans than its size allows: re-encode it");
    }
  };
  s.info.progress = &s.progress;

  jpeg_read_header(&s.info, TRUE);
  check_size("JPEG", s.info.image_width, s.info.image_height, options.limits);
  const int components = s.info.num_components;
  if (components != 1 && components != 3 && components != 4) {
    throw Error(Code::unsupported, cat("JPEG has ", components, " components: only grey, RGB and CMYK are read"));
  }
  s.cmyk = components == 4;
  s.info.out_color_space = s.cmyk ? JCS_CMYK : JCS_RGB;
  if (options.dct_scaled && options.target_side > 0) {
    const auto shorter = static_cast<std::int64_t>(std::min(s.info.image_width, s.info.image_height));
    s.info.scale_denom = 8;
    s.info.scale_num = 8;
    while (s.info.scale_num > 1 && shorter * (s.info.scale_num - 1) / 8 >= options.target_side) --s.info.scale_num;
  }
  jpeg_calc_output_dimensions(&s.info);
}

JpegReader::~JpegReader() = default;

int JpegReader::width() const noexcept {
  return static_cast<int>(state_->info.output_width);
}
int JpegReader::height() const noexcept {
  return static_cast<int>(state_->info.output_height);
}

int JpegReader::margin() const noexcept {
  return state_->info.max_v_samp_factor * DCTSIZE;
}

int JpegReader::start(int first, int last, int* columns) {
  State& s = *state_;
  const int full = width();
  TANDEM_JPEG_GUARD(s);
  jpeg_start_decompress(&s.info);
  // Smooth chroma upsampling looks one sample beyond, and libjpeg does not at the edges that it crops: one whole block
  // on each side keeps those edges out of the wanted columns.
  const int block = s.info.max_h_samp_factor * DCTSIZE;
  const int from = std::max(0, first - block);
  const int to = std::min(full, last + block);
  JDIMENSION offset = 0;
  if (to - from < full) {
    offset = static_cast<JDIMENSION>(from);
    JDIMENSION count = static_cast<JDIMENSION>(to - from);
    jpeg_crop_scanline(&s.info, &offset, &count);
  }
  *columns = static_cast<int>(s.info.output_width);
  if (s.cmyk) s.ink_row.resize(s.info.output_width * 4u);
  return static_cast<int>(offset);
}

void JpegReader::read(std::uint8_t* const* rows, int count) {
  State& s = *state_;
  TANDEM_JPEG_GUARD(s);
  if (!s.cmyk) {
    for (int done = 0; done < count;) {
      done += static_cast<int>(
          jpeg_read_scanlines(&s.info, const_cast<JSAMPARRAY>(rows + done), static_cast<JDIMENSION>(count - done)));
    }
    return;
  }
  const int columns = static_cast<int>(s.info.output_width);
  for (int y = 0; y < count; ++y) {
    JSAMPROW ink = s.ink_row.data();
    jpeg_read_scanlines(&s.info, &ink, 1);
    std::uint8_t* to = rows[y];
    // Four inks are always stored inverted (Adobe's convention), as Pillow takes it.
    for (int x = 0; x < columns; ++x, ink += 4, to += 3) {
      const int paper = ink[3];
      to[0] = ink_to_light(255 - ink[0], paper);
      to[1] = ink_to_light(255 - ink[1], paper);
      to[2] = ink_to_light(255 - ink[2], paper);
    }
  }
}

void JpegReader::skip(int count) {
  State& s = *state_;
  TANDEM_JPEG_GUARD(s);
  if (count > 0) jpeg_skip_scanlines(&s.info, static_cast<JDIMENSION>(count));
}

Image decode_jpeg(std::span<const std::byte> bytes, const DecodeOptions& options) {
  JpegReader reader(bytes, options);
  Image image = make_image(static_cast<std::uint64_t>(reader.width()), static_cast<std::uint64_t>(reader.height()));
  int columns = 0;
  reader.start(0, image.width, &columns);
  constexpr int kRows = 16;
  for (int y = 0; y < image.height; y += kRows) {
    std::uint8_t* rows[kRows];
    const int count = std::min(kRows, image.height - y);
    for (int i = 0; i < count; ++i) rows[i] = image.pixels.data() + (static_cast<std::size_t>(y) + i) * image.width * 3;
    reader.read(rows, count);
  }
  return image;
}

}  // namespace tandem::image
