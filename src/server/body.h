// Request bodies: bytes from strangers to checked values. Pure functions, no engine, no sockets; fuzzed.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/input.h"
#include "server/wishes.h"

namespace tandem::server {

struct BodyLimits {
  int max_items = 2048;
  std::size_t max_text_bytes = std::size_t{1} << 20;
  int max_label_texts = 65'536;
  bool allow_urls = false;  ///< pictures may be given as http and https addresses
};

/// The most memory that parsing a JSON body takes beside the body itself, what is made of it included: every string
/// once more with its length (5/3 of the body), the values made (1), and 20 bytes for each bracket, comma, colon and
/// value, of which no more than max_values() are parsed. A form or a picture takes less.
std::size_t parse_bytes(std::string_view body, const BodyLimits& limits) noexcept;

/// Brackets, commas, colons and values that a JSON body may have: far more than the other limits let a request use, and
/// few enough that lists of tiny numbers cannot fill the memory.
std::size_t max_values(const BodyLimits& limits) noexcept;

/// POST /v1/embeddings (OpenAI's shape and the ways in which others put pictures into it).
struct EmbeddingsBody {
  std::string model;  ///< empty: not named
  Wishes wishes;
  std::vector<Input> inputs;
  bool base64 = false;
  int dimensions = 0;        ///< 0: all
  bool normalize = true;     ///< to unit length
  bool item_errors = false;  ///< what is wrong with one input is said in its place, and the others have their vectors
};

/// POST /classify.
struct ClassifyBody {
  std::string model;
  Wishes wishes;
  std::vector<Input> images;                          ///< at least one; one of a list may be an ItemError
  std::optional<std::vector<std::string>> labels;     ///< absent: the server's default labels
  std::optional<std::vector<std::string>> templates;  ///< absent: the server's default templates
  std::optional<std::size_t> top;                     ///< 0: all labels
  bool plain = false;       ///< infinity's shape: "input", which may hold texts, and an answer as it gives
  bool raw_scores = false;  ///< of infinity's: logits instead of probabilities
};

/// POST /search: exactly one of text and image.
struct SearchBody {
  std::string model;
  Wishes wishes;
  std::string text;
  std::optional<Input> image;
  std::size_t top = 12;
};

/// All throw bad_data (not JSON), invalid_argument (a field is missing or wrong; a FieldError names it) or too_large
/// (naming the limit). The text is best given with spare capacity behind it (see Call::body); it is copied otherwise.
/// zero_is_all: "dimensions": 0 is all of them, as infinity's clients say it.
EmbeddingsBody parse_embeddings(const std::string& json, const BodyLimits& limits, bool zero_is_all = false);
/// Every input is a picture: POST /embeddings_image.
EmbeddingsBody parse_image_embeddings(const std::string& json, const BodyLimits& limits);
ClassifyBody parse_classify(const std::string& json, const BodyLimits& limits);
SearchBody parse_search(const std::string& json, const BodyLimits& limits);

/// The same from a multipart/form-data body. Pictures are parts "image" (repeatable; "images" and "file" are the same),
/// texts "text" or "input", labels "labels" (a part each, or one with commas or lines); every other field has the name
/// that it has in JSON.
EmbeddingsBody parse_embeddings_form(std::string_view body, std::string_view content_type, const BodyLimits& limits);
ClassifyBody parse_classify_form(std::string_view body, std::string_view content_type, const BodyLimits& limits);
/// The same from a picture as the whole body, with the other fields in the query.
EmbeddingsBody parse_embeddings_picture(std::string_view body, std::string_view query, const BodyLimits& limits);
ClassifyBody parse_classify_picture(std::string_view body, std::string_view query, const BodyLimits& limits);
/// The same from decoded pixels as npy (see npy.h), which share the body's memory.
EmbeddingsBody parse_embeddings_npy(std::shared_ptr<const std::string> body, std::string_view query,
                                    const BodyLimits& limits);

}  // namespace tandem::server
