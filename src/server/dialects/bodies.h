// Bodies of the dialects: bytes from strangers to checked values. Pure functions like those of body.h, and fuzzed with
// them; they throw as those do.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/body.h"

namespace tandem::server {

/// POST /rerank of Cohere, Jina and infinity ("documents") and of TEI ("texts").
struct RerankBody {
  std::string model;
  Wishes wishes;
  std::vector<Input> items;          ///< the query, then the documents
  std::vector<std::string> echoes;   ///< the documents as JSON, where they are to be returned
  std::optional<std::size_t> top_n;  ///< absent: all
  bool raw_scores = false;           ///< logit scale x cosine instead of the cosine
  bool tei = false;
};
RerankBody parse_rerank(const std::string& json, const BodyLimits& limits);

/// How a vector is written: Cohere's "float" and "base64", and the signs of its values in "binary" and "ubinary".
enum class CohereType : std::uint8_t { values, base64, binary, ubinary };

/// POST /v1/embed and /v2/embed of Cohere.
struct CohereBody {
  std::string model, name;  ///< the list that was given: "texts", "images" or "inputs"
  Wishes wishes;
  std::vector<Input> inputs;
  std::vector<std::string> texts;  ///< as JSON, to be repeated
  std::vector<CohereType> types;   ///< empty: none was named
  bool refuse_long = false;        ///< "truncate": "NONE"
  int dimensions = 0;              ///< 0: all
};
CohereBody parse_cohere(const std::string& json, const BodyLimits& limits);

/// POST /embed of TEI.
struct TeiEmbedBody {
  Wishes wishes;
  std::vector<Input> inputs;
  bool normalize = true;
  bool refuse_long = false;  ///< "truncate": false
  int dimensions = 0;        ///< 0: all
};
TeiEmbedBody parse_tei_embed(const std::string& json, const BodyLimits& limits);

/// POST /tokenize of TEI.
struct TeiTokenizeBody {
  std::vector<std::string> inputs;
  bool special = true;  ///< start and end too
};
TeiTokenizeBody parse_tei_tokenize(const std::string& json, const BodyLimits& limits);

/// POST /similarity: every one of `a` with every one of `b`; TEI's shape has one sentence and several.
struct SimilarityBody {
  std::string model;
  Wishes wishes;
  std::vector<Input> a, b;
  bool tei = false;
};
SimilarityBody parse_similarity(const std::string& json, const BodyLimits& limits);

/// POST /predict of immich: a form with "entries" (what is wanted, as JSON) and "image" or "text".
struct ImmichBody {
  bool visual = false;
  Input input;
};
ImmichBody parse_immich(std::string_view body, std::string_view content_type, const BodyLimits& limits);

/// POST /vectorize of weaviate.
struct WeaviateBody {
  Wishes wishes;
  std::vector<Input> texts, images;
};
WeaviateBody parse_weaviate(const std::string& json, const BodyLimits& limits);

/// POST /clip/embed_image, /clip/embed_text and /clip/compare of Roboflow.
struct RoboflowCompareBody {
  Wishes wishes;
  Input subject;
  std::vector<Input> prompts;
  std::vector<std::string> names;  ///< of the prompts, where they came with names
};
struct RoboflowBody {
  Wishes wishes;
  std::vector<Input> inputs;
};
RoboflowBody parse_roboflow_images(const std::string& json, const BodyLimits& limits);
RoboflowBody parse_roboflow_texts(const std::string& json, const BodyLimits& limits);
RoboflowCompareBody parse_roboflow_compare(const std::string& json, const BodyLimits& limits);

/// POST /infer: pictures as base64 or as nested lists of 0…255, and texts.
struct InferBody {
  Wishes wishes;
  std::vector<Input> images, texts;
};
InferBody parse_infer(std::string json, const BodyLimits& limits);

/// Takes every list height x width x 3 of numbers out of a JSON text; "\u0001N" stands in its place, where N is its
/// index in `pictures`. So a million numbers are never JSON values. Throws bad_data, invalid_argument or too_large.
std::string lift_pixels(std::string_view json, std::vector<HostPixels>& pictures, const BodyLimits& limits);

/// POST /api: one picture.
struct FeatureBody {
  Wishes wishes;
  std::optional<Input> image;
  EmbedOptions options{Feature::pooled, true};
};
FeatureBody parse_feature(const std::string& json, const BodyLimits& limits);
FeatureBody parse_feature_form(std::string_view body, std::string_view content_type, const BodyLimits& limits);
FeatureBody parse_feature_picture(std::string_view body, std::string_view query);

}  // namespace tandem::server
