// The inner loops of the resize, once per instruction set, all with the same bits.
//
// The resize is two passes of integer dot products: columns first, into bytes, then rows. Both passes see bytes in
// groups of four neighbours along the axis they reduce, one group per 32-bit lane, so that one instruction multiplies
// four taps. Windows start at multiples of four; weights outside a window are zero.
#pragma once

#include <cstdint>
#include <string_view>

#include "image/kernels_isa.h"

namespace tandem::image {

enum class Isa { scalar, avx2, avx512 };

/// "scalar", "avx2" or "avx512".
std::string_view isa_name(Isa isa) noexcept;

/// True if this processor and this build can run it.
bool isa_available(Isa isa) noexcept;

/// The fastest one available.
Isa best_isa() noexcept;

inline constexpr int kTileRows = 16;  ///< source rows that the column pass takes at once

struct Kernels {
  Isa isa;
  int words_per_group;  ///< 32-bit words that pack_weights writes for four weights

  /// Four weights (|w| < 2^22.9) to words.
  void (*pack_weights)(const std::int32_t weights[4], std::uint32_t* words);

  /// Sixteen rows of RGB to tile[group][channel][row], each word four neighbouring pixels' values of a channel.
  /// Rows must have 12 * groups + 4 readable bytes.
  void (*pack_rows)(const std::uint8_t* const rows[kTileRows], int groups, std::uint32_t* tile);

  /// Column pass over one tile: for output column x and channel c, the four words bytes[4][stride] at 3 * x + c, word
  /// j holding the results of rows 4j … 4j + 3.
  void (*columns)(const std::uint32_t* tile, const PackedAxis& axis, std::uint32_t* bytes, std::int64_t stride);

  /// Row pass for output row `y`, whose first group is bytes[0 … stride): `width` results into `out`. `bytes` is
  /// readable to the next multiple of 16 words.
  void (*row)(const std::uint32_t* bytes, std::int64_t stride, const PackedAxis& axis, int y, int width,
              std::uint8_t* out);
};

/// The kernels of an instruction set. Throws unsupported if it is not available.
const Kernels& kernels_of(Isa isa);

}  // namespace tandem::image
