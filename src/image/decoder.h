// From whatever a caller has (an encoded file, pixels in memory, pixels on a device) to the crop that a model reads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <variant>

#include "image/decode.h"
#include "image/fit.h"

namespace tandem::image {

struct EncodedImage {
  std::span<const std::byte> bytes;  ///< a whole file; must live until the call returns
};

/// RGB pixels in a device's memory, opaque to everything but a decoder for that device.
struct DevicePixels {
  const void* data = nullptr;
  int width = 0;
  int height = 0;
  std::int64_t row_stride = 0;  ///< bytes
  int device = 0;               ///< ordinal
};

using ImageInput = std::variant<EncodedImage, HostPixels, DevicePixels>;

/// What is known of a picture once it was decoded and fitted.
struct Decoded {
  Size given;              ///< that the picture had before, upright (after DCT scaling, where that is wanted)
  double fit_seconds = 0;  ///< of the call that went into fitting; the rest was decoding
};

/// Decodes and fits. Implementations are thread-safe: one serves a whole pool.
class Decoder {
 public:
  virtual ~Decoder() = default;

  virtual std::string_view name() const noexcept = 0;

  /// Bytes that decode() writes for this input: 3 * height * width of the fitted size. Reads the header at most.
  /// Throws as decode().
  virtual Size size(const ImageInput& input, const DecodeOptions& decode, const FitOptions& fit) const = 0;

  /// Writes the fitted picture, uint8 RGB [height, width, 3], into `out`. Throws Error: what decode() and fit() throw,
  /// and unsupported for a kind of input that this decoder does not take. After an Error `out` holds nothing useful.
  virtual Decoded decode(const ImageInput& input, const DecodeOptions& decode, const FitOptions& fit,
                         std::span<std::uint8_t> out) const = 0;
};

/// On the calling thread's core. JPEGs that need no turning are resized while they are decoded, and only the rows and
/// columns that the crop keeps are made; the result has the same bits as decode() then fit().
class CpuDecoder final : public Decoder {
 public:
  /// `isa` forces an instruction set; throws unsupported where the processor lacks it.
  explicit CpuDecoder(std::optional<Isa> isa = std::nullopt);

  std::string_view name() const noexcept override { return "cpu"; }
  Isa isa() const noexcept { return isa_; }
  Size size(const ImageInput& input, const DecodeOptions& decode, const FitOptions& fit) const override;
  Decoded decode(const ImageInput& input, const DecodeOptions& decode, const FitOptions& fit,
                 std::span<std::uint8_t> out) const override;

 private:
  Isa isa_;
};

}  // namespace tandem::image
