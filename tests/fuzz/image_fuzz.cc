// Pictures that strangers send: decode and fit must end in pixels or in an Error, whatever the bytes.
//
// The first byte chooses options, the rest is the file.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "image/decoder.h"
#include "tandem/error.h"

using namespace tandem::image;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::uint8_t choice = data[0];
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data + 1), size - 1);
  DecodeOptions decode_options;
  decode_options.exif = (choice & 1) != 0 ? Exif::apply : Exif::ignore;
  decode_options.limits = {1 << 18, 1 << 20};
  decode_options.dct_scaled = (choice & 2) != 0;
  decode_options.target_side = 24;
  FitOptions fit_options;
  fit_options.reference = static_cast<Reference>((choice >> 2) % 3);
  fit_options.resample = (choice & 16) != 0 ? Resample::bicubic : Resample::bilinear;
  fit_options.do_resize = (choice & 32) != 0;
  fit_options.mode = (choice & 64) != 0 ? FitOptions::ResizeMode::exact : FitOptions::ResizeMode::shortest_edge;
  fit_options.resize_height = fit_options.resize_width = 24;
  fit_options.crop_height = fit_options.crop_width = 20;
  std::vector<std::uint8_t> out(3 * 20 * 20);
  try {
    const CpuDecoder decoder;
    decoder.decode(EncodedImage{bytes}, decode_options, fit_options, out);
  } catch (const tandem::Error&) {
  }
  return 0;
}
