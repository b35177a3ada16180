// WebP through libwebp. A still picture goes straight to RGB; an animation's first frame is put on its canvas, black
// where the frame does not reach, as Pillow's WebPAnimDecoder does.
#include <webp/decode.h>
#include <webp/demux.h>

#include <cstring>
#include <memory>

#include "base/strings.h"
#include "image/decode.h"
#include "image/formats.h"
#include "tandem/error.h"

namespace tandem::image {
namespace {

[[noreturn]] void damaged(VP8StatusCode status) {
  const bool truncated = status == VP8_STATUS_NOT_ENOUGH_DATA || status == VP8_STATUS_SUSPENDED;
  throw Error(Code::bad_data, truncated ? "WebP is truncated: give the complete file"
                                        : cat("WebP is damaged (libwebp status ", static_cast<int>(status), ")"));
}

WebPBitstreamFeatures features_of(const WebPData& data) {
  WebPBitstreamFeatures features;
  const VP8StatusCode status = WebPGetFeatures(data.bytes, data.size, &features);
  if (status != VP8_STATUS_OK) damaged(status);
  return features;
}

void decode_still(const WebPData& data, WEBP_CSP_MODE mode, std::vector<std::uint8_t>& pixels, int stride) {
  WebPDecoderConfig config;
  if (WebPInitDecoderConfig(&config) == 0) throw Error(Code::internal, "libwebp's version differs from its header's");
  config.output.colorspace = mode;
  config.output.is_external_memory = 1;
  config.output.u.RGBA = {pixels.data(), stride, pixels.size()};
  const VP8StatusCode decoded = WebPDecode(data.bytes, data.size, &config);
  if (decoded != VP8_STATUS_OK) damaged(decoded);
}

Image decode_animation(const WebPData& data, std::uint64_t width, std::uint64_t height) {
  WebPAnimDecoderOptions options;
  WebPAnimDecoderOptionsInit(&options);
  options.color_mode = MODE_RGBA;
  const std::unique_ptr<WebPAnimDecoder, decltype(&WebPAnimDecoderDelete)> decoder(WebPAnimDecoderNew(&data, &options),
                                                                                   WebPAnimDecoderDelete);
  std::uint8_t* rgba = nullptr;
  int timestamp = 0;
  if (decoder == nullptr || WebPAnimDecoderGetNext(decoder.get(), &rgba, &timestamp) == 0) {
    throw Error(Code::bad_data, "WebP animation is damaged or truncated: its first frame cannot be decoded");
  }
  Image image = make_image(width, height);
  std::uint8_t* to = image.pixels.data();
  for (std::uint64_t i = 0; i < width * height; ++i, to += 3, rgba += 4) std::memcpy(to, rgba, 3);
  return image;
}

}  // namespace

Image decode_webp(std::span<const std::byte> bytes, const DecodeLimits& limits) {
  const WebPData data{reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()};
  const WebPBitstreamFeatures features = features_of(data);
  const auto width = static_cast<std::uint64_t>(features.width), height = static_cast<std::uint64_t>(features.height);
  check_size("WebP", width, height, limits);
  const std::unique_ptr<WebPDemuxer, decltype(&WebPDemuxDelete)> demuxer(WebPDemux(&data), WebPDemuxDelete);
  if (demuxer == nullptr) throw Error(Code::bad_data, "WebP is truncated or damaged: give the complete file");
  if (features.has_animation != 0) return decode_animation(data, width, height);

  Image image = make_image(width, height);
  decode_still(data, MODE_RGB, image.pixels, 3 * image.width);
  return image;
}

Drawing decode_drawing(std::span<const std::byte> bytes, const DecodeLimits& limits) {
  const WebPData data{reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()};
  const WebPBitstreamFeatures features = features_of(data);
  if (features.has_animation != 0) throw Error(Code::unsupported, "WebP is an animation: give a still picture");
  const auto width = static_cast<std::uint64_t>(features.width), height = static_cast<std::uint64_t>(features.height);
  check_size("WebP", width, height, limits);
  Drawing drawing{features.width, features.height, std::vector<std::uint8_t>(width * height * 4)};
  decode_still(data, MODE_RGBA, drawing.rgba, 4 * drawing.width);
  return drawing;
}

}  // namespace tandem::image
