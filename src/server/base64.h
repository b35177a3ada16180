// Base64 as it arrives in data URIs and as it leaves in embeddings (RFC 4648).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::server {

/// Decodes the standard and the URL-safe alphabet, with or without padding; spaces and line breaks are skipped.
/// Throws bad_data that says where the first wrong character stands.
std::vector<std::byte> decode_base64(std::string_view text);

/// Appends the standard alphabet's encoding with padding.
void append_base64(std::span<const std::byte> bytes, std::string& out);

}  // namespace tandem::server
