// A JPEG read row by row through libjpeg-turbo, so that fit() can resize while decoding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "image/decode.h"

namespace tandem::image {

class JpegReader {
 public:
  /// Reads the header and checks the limits. `bytes` must outlive the reader. Throws bad_data, too_large, unsupported.
  JpegReader(std::span<const std::byte> bytes, const DecodeOptions& options);
  ~JpegReader();
  JpegReader(const JpegReader&) = delete;
  JpegReader& operator=(const JpegReader&) = delete;

  int width() const noexcept;   ///< pixels, after DCT scaling
  int height() const noexcept;  ///< pixels, after DCT scaling

  /// Starts decoding the columns [first, last) at least; returns the first column that rows really begin with, and
  /// sets `columns` to their number. The columns asked for have the same bits as in a full decode.
  int start(int first, int last, int* columns);

  /// Reads the next rows as RGB into `rows[0…count)`, each with room for 3 * columns bytes.
  void read(std::uint8_t* const* rows, int count);

  /// Moves on by `count` rows, short of the last row, without making pixels. The entropy-coded data is still read, so
  /// that a truncated file is noticed wherever it ends.
  void skip(int count);

  /// Rows that must be decoded ahead of the first wanted row, after a skip, for that row to have its true bits.
  int margin() const noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tandem::image
