// Base64 of the standard alphabet (RFC 4648): pictures on their way out, vectors on their way in.
#pragma once

#include <string>
#include <string_view>

namespace tandem::loadtest {

/// With padding.
void append_base64(std::string_view bytes, std::string& out);

/// False when `text` is no padded base64. `out` is replaced.
bool decode_base64(std::string_view text, std::string& out);

}  // namespace tandem::loadtest
