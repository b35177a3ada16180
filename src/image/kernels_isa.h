// Entry points of the kernel files that are compiled for one instruction set. Those files include nothing with inline
// functions of the project or the standard library, so that the linker can never pick a copy that the processor lacks.
#pragma once

#include <cstdint>

namespace tandem::image {

/// One axis' weights as a kernel wants them. Output i reads groups [first[i], first[i] + count[i]) with
/// `words_per_group` words for each, beginning at words + first_word[i].
struct PackedAxis {
  int outputs = 0;
  int shift = 0;  ///< result = clamp((sum + 2^(shift-1)) >> shift, 0, 255)
  const std::int32_t* first = nullptr;
  const std::int32_t* count = nullptr;
  const std::int32_t* first_word = nullptr;
  const std::uint32_t* words = nullptr;
};

namespace avx2 {
void pack_weights(const std::int32_t weights[4], std::uint32_t* words);
void pack_rows(const std::uint8_t* const rows[], int groups, std::uint32_t* tile);
void columns(const std::uint32_t* tile, const PackedAxis& axis, std::uint32_t* bytes, std::int64_t stride);
void row(const std::uint32_t* bytes, std::int64_t stride, const PackedAxis& axis, int y, int width, std::uint8_t* out);
}  // namespace avx2

namespace avx512 {
void pack_weights(const std::int32_t weights[4], std::uint32_t* words);
void pack_rows(const std::uint8_t* const rows[], int groups, std::uint32_t* tile);
void columns(const std::uint32_t* tile, const PackedAxis& axis, std::uint32_t* bytes, std::int64_t stride);
void row(const std::uint32_t* bytes, std::int64_t stride, const PackedAxis& axis, int y, int width, std::uint8_t* out);
}  // namespace avx512

}  // namespace tandem::image
