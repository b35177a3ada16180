// Resize and centre crop, bit for bit as one of three references does it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "image/image.h"
#include "image/kernels.h"

namespace tandem::image {

/// Whose pixels to reproduce.
enum class Reference {
  hf,      ///< Pillow's resize, crop offset rounded down: transformers' PIL image processors
  openai,  ///< Pillow's resize, torchvision's crop offset (half rounds to even): open_clip
  hf_fast  ///< torchvision's uint8 resize with antialias, crop offset rounded down: transformers 5's default
};

enum class Resample { bilinear, bicubic };

/// What a preprocessor configuration says. Defaults are CLIP's.
struct FitOptions {
  enum class ResizeMode {
    shortest_edge,  ///< the shorter side becomes resize_height (= resize_width), the aspect ratio stays
    exact           ///< the picture becomes resize_height x resize_width, whatever its aspect ratio
  };
  bool do_resize = true;
  ResizeMode mode = ResizeMode::shortest_edge;
  int resize_height = 224;  ///< pixels
  int resize_width = 224;   ///< pixels
  bool do_center_crop = true;
  int crop_height = 224;  ///< pixels; a smaller picture is padded with zeros
  int crop_width = 224;   ///< pixels
  Resample resample = Resample::bicubic;
  Reference reference = Reference::hf_fast;
};

struct Size {
  int width = 0;
  int height = 0;
  bool operator==(const Size&) const = default;
};

/// The size that fit() gives for a picture of `source` size: the crop's, or without a crop the resized one.
/// Throws invalid_argument for sides < 1, too_large if a resized side would exceed 2^24.
Size fitted_size(Size source, const FitOptions& options);

/// Resizes and crops `image` into `out`, [height, width, 3] of fitted_size(). Only the rows and columns that the crop
/// keeps are computed. Every instruction set gives the same bits; `isa` forces one, and throws unsupported where the
/// processor lacks it. Throws invalid_argument if out.size() differs.
void fit(const HostPixels& image, const FitOptions& options, std::span<std::uint8_t> out,
         std::optional<Isa> isa = std::nullopt);

}  // namespace tandem::image
