// From what a caller gives to what a tower reads: fitted pixels, token ids.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "image/decoder.h"
#include "model/files.h"
#include "tandem/engine.h"

namespace tandem::engine {

/// How pictures and texts are prepared, after the options and the model's defaults met.
struct PrepareOptions {
  Reference reference = Reference::hf_fast;
  Exif exif = Exif::apply;
  bool fast_decode = false;
  Cleaning cleaning = Cleaning::hf;
  std::uint64_t max_pixels = 178'956'970;
};

/// What `options` ask for, where they leave it open as the model says.
PrepareOptions prepare_options(const EngineOptions& options, const model::ModelFiles& files);

/// An item's input for a tower: pixels u8 [S, S, 3] (own, the caller's, or on the device), or ids.
struct Prepared {
  std::vector<std::uint8_t> owned_pixels;
  std::shared_ptr<const std::uint8_t> shared_pixels;
  const std::byte* device_pixels = nullptr;
  std::vector<std::int32_t> ids;
  bool truncated = false;
  double fit_seconds = 0;  ///< of a picture's preparation: resizing
  image::Size given;       ///< of the picture before it was fitted
  const std::uint8_t* pixels() const noexcept { return shared_pixels ? shared_pixels.get() : owned_pixels.data(); }
};

/// Thread-safe. Throws what concerns one item alone.
class Preparer {
 public:
  Preparer(const model::ModelFiles& files, const PrepareOptions& options);
  /// Takes pixels in the memory of this device from now on. Before anything is prepared.
  void accept(DeviceId device) { device_ = device; }
  /// Whether preparing costs so little that the caller's thread may do it.
  bool is_cheap(const ImageInput& image) const noexcept;
  static bool is_cheap(const TextInput& text) noexcept;
  Prepared prepare(const ImageInput& image) const;
  Prepared prepare(const TextInput& text) const;
  /// See Engine::tokenize().
  std::vector<Token> tokenize(std::string_view text) const;
  std::int32_t input_size() const noexcept { return config_.vision.image_size; }

 private:
  void check(const DevicePixels& given) const;

  model::Config config_;
  DeviceId device_;  ///< automatic: none
  image::FitOptions fit_;
  image::DecodeOptions decode_;
  std::unique_ptr<image::Decoder> decoder_;
  std::unique_ptr<text::Tokenizer> tokenizer_;
  std::string tokenizer_help_;
};

}  // namespace tandem::engine
