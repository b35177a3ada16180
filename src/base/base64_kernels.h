// Base64 by one instruction set: what base/base64.h chooses from, and what tests and measurements compare.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/base64_isa.h"

namespace tandem::base64 {

struct Kernels {
  std::string_view name;  ///< "scalar", "avx2", "avx512"
  std::size_t (*decode)(const char* text, std::size_t size, Alphabet alphabet, std::uint8_t* out);
  std::size_t (*encode)(const std::uint8_t* bytes, std::size_t size, char* out);
};

/// Those that this processor has, the fastest first; the scalar one is the last of them.
std::span<const Kernels> available() noexcept;

// As the functions of base/base64.h, with these kernels.
std::vector<std::byte> decode(const Kernels& kernels, std::string_view text);
bool decode_strict(const Kernels& kernels, std::string_view text, std::string& out);
void append(const Kernels& kernels, std::span<const std::byte> bytes, std::string& out);

}  // namespace tandem::base64
