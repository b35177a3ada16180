// POST /v1/embeddings: OpenAI's shape, with pictures.
#include <algorithm>
#include <bit>
#include <cmath>
#include <span>

#include "base/strings.h"
#include "server/base64.h"
#include "server/routes.h"

namespace tandem::server {
namespace {

/// Where each input went: the engine takes images and texts apart.
struct Place {
  bool image = false;
  std::size_t index = 0;
};

/// OpenAI's `dimensions`: the first values, to unit length again.
void shorten(std::vector<float>& values, std::size_t dimensions) {
  if (dimensions == 0 || dimensions >= values.size()) return;
  values.resize(dimensions);
  double sum = 0;
  for (const float value : values) sum += static_cast<double>(value) * value;
  const float scale = sum > 0 ? static_cast<float>(1 / std::sqrt(sum)) : 0.0f;
  for (float& value : values) value *= scale;
}

void append_vector(std::span<const float> values, bool base64, std::string& out) {
  if (base64) {
    static_assert(std::endian::native == std::endian::little, "the wire format is little-endian float32");
    out += '"';
    append_base64(std::as_bytes(values), out);
    out += '"';
    return;
  }
  out += '[';
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i > 0) out += ',';
    append_number(values[i], out);
  }
  out += ']';
}

/// What the vectors and their JSON may take; a float32's shortest decimal has at most 15 characters and a comma.
std::size_t answer_bytes(std::size_t inputs, std::size_t dim, bool base64, std::size_t dimensions) {
  constexpr std::size_t kFields = 64, kDecimal = 16, kBase64 = 6;
  const std::size_t shown = dimensions == 0 ? dim : dimensions;
  return inputs * (kFields + dim * sizeof(float) + shown * (base64 ? kBase64 : kDecimal));
}

Answer embeddings_answer(Response response, std::span<const Place> places, bool base64, std::size_t dimensions,
                         const std::string& model) {
  Answer answer;
  std::string& out = answer.body;
  long tokens = 0;
  out = "{\"object\":\"list\",\"data\":[";
  for (std::size_t i = 0; i < places.size(); ++i) {
    Embedding& one = places[i].image ? response.images.at(places[i].index) : response.texts.at(places[i].index);
    if (one.error) {
      throw FieldError(
          one.error->code,
          places.size() == 1 ? cat("input: ", one.error->message) : cat("input[", i, "]: ", one.error->message),
          "input");
    }
    tokens += one.tokens;
    shorten(one.values, dimensions);
    out += i > 0 ? ",{\"object\":\"embedding\",\"index\":" : "{\"object\":\"embedding\",\"index\":";
    out += std::to_string(i);
    out += ",\"embedding\":";
    append_vector(one.values, base64, out);
    out += '}';
  }
  out += cat("],\"model\":", json_string(model), ",\"usage\":{\"prompt_tokens\":", tokens, ",\"total_tokens\":", tokens,
             "}}");
  return answer;
}

}  // namespace

void post_embeddings(Service& service, const CallPtr& call, const Reply& reply) {
  EmbeddingsBody body =
      take_body(service, *call, [&](const BodyLimits& limits) { return parse_embeddings(call->body, limits); });
  call->wishes.take(body.wishes);
  service.require_model(body.model);
  if (body.dimensions > service.info().embed_dim) {
    throw FieldError(
        Code::invalid_argument,
        cat("\"dimensions\" is ", body.dimensions, "; this model's vectors have ", service.info().embed_dim),
        "dimensions");
  }
  call->memory.add(answer_bytes(body.inputs.size(), static_cast<std::size_t>(service.info().embed_dim), body.base64,
                                static_cast<std::size_t>(body.dimensions)),
                   "the answer");
  Request request;
  std::vector<Place> places;
  places.reserve(body.inputs.size());
  for (Input& input : body.inputs) {
    if (auto* image = std::get_if<EncodedImage>(&input)) {
      places.push_back({true, request.images.size()});
      request.images.emplace_back(std::move(*image));
    } else {
      places.push_back({false, request.texts.size()});
      if (auto* text = std::get_if<std::string>(&input)) {
        request.texts.emplace_back(std::move(*text));
      } else {
        request.texts.emplace_back(std::get<std::vector<std::int32_t>>(std::move(input)));
      }
    }
  }
  service.submit(
      call, std::move(request), reply,
      [reply, places = std::move(places), base64 = body.base64, dimensions = static_cast<std::size_t>(body.dimensions),
       model = service.model_name()](Response response) {
        reply(embeddings_answer(std::move(response), places, base64, dimensions, model));
      },
      true);
}

}  // namespace tandem::server
