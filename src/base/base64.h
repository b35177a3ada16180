// Base64 (RFC 4648): pictures on their way in, vectors on their way out, with the processor's vector instructions.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tandem {

/// Decodes the standard and the URL-safe alphabet, with or without padding; spaces and line breaks are skipped.
/// Throws bad_data that says where the first wrong character stands.
std::vector<std::byte> decode_base64(std::string_view text);

/// Decodes the standard alphabet with its padding and nothing else. False when `text` is not that. `out` is replaced.
bool decode_strict_base64(std::string_view text, std::string& out);

/// Appends the standard alphabet's encoding with padding.
void append_base64(std::span<const std::byte> bytes, std::string& out);

}  // namespace tandem
