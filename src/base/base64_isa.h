// Entry points of the kernel files that are compiled for one instruction set. Those files include nothing with inline
// functions of the project or the standard library, so that the linker can never pick a copy that the processor lacks.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tandem::base64 {

enum class Alphabet {
  standard,  ///< 62 is '+', 63 is '/'
  either     ///< and '-', '_' besides
};

// decode(): groups of four digits from the front of `text`, as many as the kernel can, up to the first that has
// anything else. Returns the characters read, a multiple of four; 3/4 as many bytes are written, and none beyond
// size / 4 * 3.
// encode(): groups of three bytes from the front, as many as the kernel can. Returns the bytes read, a multiple of
// three; 4/3 as many characters are written, and none beyond size / 3 * 4.
// Neither reads beyond `size`. What a kernel leaves is the scalar one's.

namespace avx2 {
std::size_t decode(const char* text, std::size_t size, Alphabet alphabet, std::uint8_t* out);
std::size_t encode(const std::uint8_t* bytes, std::size_t size, char* out);
}  // namespace avx2

namespace avx512 {  // with VBMI
std::size_t decode(const char* text, std::size_t size, Alphabet alphabet, std::uint8_t* out);
std::size_t encode(const std::uint8_t* bytes, std::size_t size, char* out);
}  // namespace avx512

}  // namespace tandem::base64
