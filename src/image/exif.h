// The orientation tag: finding it in a file, and turning pixels accordingly.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "image/image.h"

namespace tandem::image {

/// The orientation (1 to 8) that Pillow's getexif() would find: the TIFF tag 0x0112 of the first directory in a JPEG's
/// APP1, a PNG's eXIf or a WebP's EXIF chunk, else tiff:Orientation in the file's XMP packet. 1 (upright) if there is
/// none, if its value means nothing or if the metadata is damaged: metadata never fails a picture.
int orientation_of(std::string_view format, std::span<const std::byte> bytes) noexcept;

/// The picture turned upright for `orientation` 2…8 (5 to 8 swap width and height); any other value changes nothing.
Image upright(Image image, int orientation);

}  // namespace tandem::image
