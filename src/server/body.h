// Request bodies: bytes from strangers to checked values. Pure functions, no engine, no sockets; fuzzed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "server/wishes.h"
#include "tandem/engine.h"

namespace tandem::server {

struct BodyLimits {
  int max_items = 2048;
  std::size_t max_text_bytes = std::size_t{1} << 20;
  int max_label_texts = 65'536;
};

/// The most memory that parsing a JSON body takes beside the body itself, what is made of it included: every string
/// once more with its length (5/3 of the body), the values made (1), and 20 bytes for each bracket, comma, colon and
/// value, of which no more than max_values() are parsed. A form or a picture takes less.
std::size_t parse_bytes(std::string_view body, const BodyLimits& limits) noexcept;

/// Brackets, commas, colons and values that a JSON body may have: far more than the other limits let a request use, and
/// few enough that lists of tiny numbers cannot fill the memory.
std::size_t max_values(const BodyLimits& limits) noexcept;

/// One thing to embed.
using Input = std::variant<std::string, std::vector<std::int32_t>, EncodedImage>;

/// POST /v1/embeddings (OpenAI's shape and its image dialects).
struct EmbeddingsBody {
  std::string model;  ///< empty: not named
  Wishes wishes;
  std::vector<Input> inputs;
  bool base64 = false;
  int dimensions = 0;  ///< 0: all
};

/// One picture of several, or why it cannot be one: its neighbours are classified all the same.
using Picture = std::variant<EncodedImage, ItemError>;

/// POST /classify.
struct ClassifyBody {
  std::string model;
  Wishes wishes;
  std::vector<Picture> images;                        ///< at least one; a picture alone in its request is no error
  std::optional<std::vector<std::string>> labels;     ///< absent: the server's default labels
  std::optional<std::vector<std::string>> templates;  ///< absent: the server's default templates
  std::optional<std::size_t> top;                     ///< 0: all labels
};

/// POST /search: exactly one of text and image.
struct SearchBody {
  std::string model;
  Wishes wishes;
  std::string text;
  std::optional<EncodedImage> image;
  std::size_t top = 12;
};

/// All throw bad_data (not JSON), invalid_argument (a field is missing or wrong; a FieldError names it) or too_large
/// (naming the limit). The text is best given with spare capacity behind it (see Call::body); it is copied otherwise.
EmbeddingsBody parse_embeddings(const std::string& json, const BodyLimits& limits);
ClassifyBody parse_classify(const std::string& json, const BodyLimits& limits);
SearchBody parse_search(const std::string& json, const BodyLimits& limits);

/// The same from a multipart/form-data body: parts "image" (repeatable), "labels" (a part each, or one with commas or
/// lines), "template", "top".
ClassifyBody parse_classify_form(std::string_view body, std::string_view content_type, const BodyLimits& limits);
/// The same from a picture as the whole body, with labels, template and top in the query.
ClassifyBody parse_classify_picture(std::string_view body, std::string_view query, const BodyLimits& limits);

/// "data:image/png;base64,…" to its bytes; throws bad_data or invalid_argument. `what` begins the message.
EncodedImage image_from_data_uri(std::string_view uri, std::string_view what);
/// The same, and bare base64 as well.
EncodedImage image_from_string(std::string_view text, std::string_view what);
/// Whether a string given as an input is a picture: it begins with "data:image/".
bool is_image_uri(std::string_view text) noexcept;

}  // namespace tandem::server
