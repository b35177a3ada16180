#include "image/decoder.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "base/clock.h"
#include "image/exif.h"
#include "image/formats.h"
#include "image/jpeg.h"
#include "image/resample.h"
#include "tandem/error.h"

namespace tandem::image {
namespace {

using Clock = std::chrono::steady_clock;

/// fit(), timed.
Decoded timed_fit(const HostPixels& picture, const FitOptions& options, std::span<std::uint8_t> out, Isa isa) {
  const auto begin = Clock::now();
  fit(picture, options, out, isa);
  return {{picture.width, picture.height}, seconds_since(begin)};
}

/// True if the picture is a JPEG whose stored rows are already upright, or are wanted as stored.
bool can_stream(std::span<const std::byte> bytes, const DecodeOptions& options) {
  return sniff_format(bytes) == "jpeg" && (options.exif == Exif::ignore || orientation_of("jpeg", bytes) == 1);
}

Decoded stream_jpeg(std::span<const std::byte> bytes, const DecodeOptions& options, const FitOptions& fit_options,
                    std::span<std::uint8_t> out, Isa isa) {
  JpegReader reader(bytes, options);
  const auto planning = Clock::now();
  StreamingFit stream(plan_fit({reader.width(), reader.height()}, fit_options), out, isa);
  double fitting = seconds_since(planning);
  int columns = 0;
  const int begin = reader.start(stream.first_column(), stream.last_column(), &columns);
  const std::size_t row_bytes = 3 * static_cast<std::size_t>(columns);
  const std::size_t slack = 16;  // so that the resize may read a little beyond a row
  std::vector<std::uint8_t> buffer((row_bytes + slack) * kTileRows);
  std::uint8_t* rows[kTileRows];
  const std::uint8_t* wanted[kTileRows];
  const std::size_t offset = 3 * static_cast<std::size_t>(stream.first_column() - begin);
  for (std::size_t r = 0; r < kTileRows; ++r) {
    rows[r] = buffer.data() + r * (row_bytes + slack);
    wanted[r] = rows[r] + offset;
  }

  const int skipped = std::max(0, stream.first_row() - reader.margin());
  reader.skip(skipped);
  for (int y = skipped; y < stream.first_row();) {
    const int count = std::min(kTileRows, stream.first_row() - y);
    reader.read(rows, count);
    y += count;
  }
  for (int y = stream.first_row(); y < stream.last_row(); y += kTileRows) {
    const int count = std::min(kTileRows, stream.last_row() - y);
    reader.read(rows, count);
    const auto begin_tile = Clock::now();
    stream.push(wanted, count, static_cast<std::int64_t>(row_bytes + slack - offset));
    fitting += seconds_since(begin_tile);
  }
  // libjpeg takes a skip to the very end as permission not to look at it; a row read there makes it look.
  if (const int rest = reader.height() - stream.last_row(); rest > 0) {
    reader.skip(rest - 1);
    reader.read(rows, 1);
  }
  return {{reader.width(), reader.height()}, fitting};
}

}  // namespace

CpuDecoder::CpuDecoder(std::optional<Isa> isa) : isa_(kernels_of(isa.value_or(best_isa())).isa) {}

Size CpuDecoder::size(const ImageInput& input, const DecodeOptions& options, const FitOptions& fit_options) const {
  if (const auto* host = std::get_if<HostPixels>(&input)) return fitted_size({host->width, host->height}, fit_options);
  if (const auto* device = std::get_if<DevicePixels>(&input)) {
    return fitted_size({device->width, device->height}, fit_options);
  }
  if (fit_options.do_center_crop) return {fit_options.crop_width, fit_options.crop_height};
  if (fit_options.do_resize && fit_options.mode == FitOptions::ResizeMode::exact) {
    return {fit_options.resize_width, fit_options.resize_height};
  }
  const Image image = image::decode(std::get<EncodedImage>(input).bytes, options);
  return fitted_size({image.width, image.height}, fit_options);
}

Decoded CpuDecoder::decode(const ImageInput& input, const DecodeOptions& options, const FitOptions& fit_options,
                           std::span<std::uint8_t> out) const {
  if (const auto* host = std::get_if<HostPixels>(&input)) return timed_fit(*host, fit_options, out, isa_);
  if (std::holds_alternative<DevicePixels>(input)) {
    throw Error(Code::unsupported, "pixels on a device cannot be read by the CPU decoder: copy them to the host first");
  }
  const std::span<const std::byte> bytes = std::get<EncodedImage>(input).bytes;
  check_bytes(bytes, options.limits);
  if (can_stream(bytes, options)) return stream_jpeg(bytes, options, fit_options, out, isa_);
  return timed_fit(image::decode(bytes, options), fit_options, out, isa_);
}

}  // namespace tandem::image
