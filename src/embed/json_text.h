// Appending JSON to a string, fast enough for millions of lines.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "tandem/engine.h"

namespace tandem::embed {

/// A quoted JSON string. Bytes that are no UTF-8 become U+FFFD, so that the line can always be read back.
void append_json(std::string& out, std::string_view text);

/// The shortest decimal that reads back as the same float; null for what JSON cannot say (not finite).
void append_json(std::string& out, float value);

/// [a,b,…]
void append_json(std::string& out, std::span<const float> values);
void append_json(std::string& out, std::span<const std::int32_t> values);

/// {"code":"…","message":"…"}
void append_json(std::string& out, const ItemError& error);

}  // namespace tandem::embed
