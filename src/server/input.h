// One thing to embed, as it stands in a request of any dialect.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tandem/engine.h"

namespace tandem::server {

/// A picture that is elsewhere: fetched before it is embedded, where the server is allowed to.
struct ImageUrl {
  std::string url;
};

/// A text, its token ids, a picture, or why this one is none: its neighbours may be embedded all the same.
using Input = std::variant<std::string, std::vector<std::int32_t>, EncodedImage, HostPixels, ImageUrl, ItemError>;

/// Whether a string given as an input is a picture: it begins with "data:image/".
bool is_image_uri(std::string_view text) noexcept;

/// "data:image/png;base64,…" to its bytes, and where allow_urls an http or https address. Throws bad_data,
/// invalid_argument or, for an address that may not be fetched, unsupported; `what` begins the message.
Input image_from_data_uri(std::string_view uri, std::string_view what, bool allow_urls);
/// The same, and bare base64 as well.
Input image_from_string(std::string_view text, std::string_view what, bool allow_urls);
/// A picture's bytes, copied.
EncodedImage copy_of(std::string_view bytes);

/// The field that an item belongs to: "images" of "images[3]", "input" of "input[2].image".
std::string param_of(std::string_view what);

}  // namespace tandem::server
