// POST /infer: pictures (base64, or nested lists of 0…255) and texts to logits, probabilities and both embeddings.
#include <algorithm>
#include <cmath>

#include "base/strings.h"
#include "server/dialects/bodies.h"
#include "server/read_input.h"
#include "server/routes.h"
#include "server/vectors.h"

namespace tandem::server {
namespace {

/// A picture, or what lift_pixels() put in the place of one.
Input picture_of(Value value, const std::string& what, const std::vector<HostPixels>& lifted,
                 const BodyLimits& limits) {
  std::string_view text;
  if (!value.get(text) && text.starts_with('\1')) {
    std::size_t index = 0;
    for (const char c : text.substr(1)) {
      if (c < '0' || c > '9' || index > lifted.size()) index = lifted.size() + 1;
      index = index * 10 + static_cast<std::size_t>(c - '0');
    }
    if (text.size() < 2 || index >= lifted.size()) wrong(param_of(what), cat(what, " is no picture"));
    return lifted[index];
  }
  if (value.is_array()) {
    wrong(param_of(what), cat(what, " must be base64, or a list of height x width x 3 numbers from 0 to 255"));
  }
  return read_input(value, what, Strings::images, limits);
}

void take_pictures(Value value, const std::string& name, const std::vector<HostPixels>& lifted, InferBody& body,
                   const BodyLimits& limits) {
  if (!body.images.empty()) wrong(name, "give either \"image\" or \"images\"");
  List list;
  if (value.get(list)) {
    body.images.push_back(picture_of(value, name, lifted, limits));
    return;
  }
  check_count(list.size(), "images", name, limits);
  for (Value item : list) {
    body.images.push_back(picture_of(item, cat(name, "[", body.images.size(), "]"), lifted, limits));
  }
  if (body.images.empty()) wrong(name, cat("\"", name, "\" is an empty list"));
}

void append_table(const std::vector<std::vector<float>>& rows, std::string& out) {
  out += '[';
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (i > 0) out += ',';
    append_vector(rows[i], false, out);
  }
  out += ']';
}

std::vector<float> softmax(const std::vector<float>& logits) {
  std::vector<float> out(logits.size());
  const double most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - most);
  std::transform(logits.begin(), logits.end(), out.begin(),
                 [&](float logit) { return static_cast<float>(std::exp(logit - most) / sum); });
  return out;
}

Answer infer_answer(const Vectors& vectors, std::size_t images, double scale, const std::string& model) {
  require_all(vectors);
  const std::size_t texts = vectors.items.size() - images;
  std::vector<std::vector<float>> logits, probabilities;
  for (std::size_t i = 0; i < images; ++i) {
    std::vector<float>& row = logits.emplace_back();
    for (std::size_t j = 0; j < texts; ++j) {
      row.push_back(static_cast<float>(scale * cosine(vectors.items[i].values, vectors.items[images + j].values)));
    }
    probabilities.push_back(softmax(row));
  }
  Answer answer;
  answer.body = "{\"logits\":";
  append_table(logits, answer.body);
  answer.body += ",\"probabilities\":";
  append_table(probabilities, answer.body);
  answer.body += ",\"image_embeddings\":";
  append_vectors(vectors, 0, images, answer.body);
  answer.body += ",\"text_embeddings\":";
  append_vectors(vectors, images, vectors.items.size(), answer.body);
  answer.body += cat(",\"model\":", json_string(model), "}");
  return answer;
}

}  // namespace

InferBody parse_infer(std::string json, const BodyLimits& limits) {
  InferBody body;
  std::vector<HostPixels> lifted;
  std::string rest = lift_pixels(json, lifted, limits);
  json = std::string();  // numbers as text are the larger part
  rest.reserve(rest.size() + simdjson::SIMDJSON_PADDING);
  Document(rest, limits).for_each([&](std::string_view key, Value value) {
    if (key == "image" || key == "images") {
      take_pictures(value, std::string(key), lifted, body, limits);
    } else if (key == "text" || key == "texts") {
      if (!body.texts.empty()) wrong("text", "give either \"text\" or \"texts\"");
      List list;
      const std::string name(key);
      if (!value.get(list) && list.size() > 0 && (*list.begin()).is_number()) wrong(name, name + "[0] must be a text");
      body.texts = read_inputs(value, name, Strings::texts, limits);
      require_inputs(body.texts, name);
    } else {
      take_wish(key, value, body.wishes);
    }
  });
  if (body.images.empty()) wrong("image", "\"image\" is missing");
  if (body.texts.empty()) wrong("text", "\"text\" is missing");
  const std::size_t most = static_cast<std::size_t>(limits.max_items) * 64;
  if (body.images.size() > most / body.texts.size()) {
    throw FieldError(Code::too_large,
                     cat(body.images.size(), " images x ", body.texts.size(), " texts; the limit is ", most,
                         " pairs in one request"),
                     "text");
  }
  return body;
}

const ApiOperation kInferOperation{
    "vectors",
    "Pictures and texts to logits, probabilities and both embeddings; a picture may also be nested lists of height x "
    "width x "
    "3 numbers from 0 to 255",
    R"({"application/json": {"schema": {"type": "object", "properties": {"image": {"anyOf": [{"$ref": "#/components/schemas/Picture"}, {"type": "array", "items": {"$ref": "#/components/schemas/Picture"}, "minItems": 1}]}, "text": {"anyOf": [{"$ref": "#/components/schemas/Text"}, {"type": "array", "items": {"$ref": "#/components/schemas/Text"}, "minItems": 1}]}, "images": {"type": "null"}, "texts": {"type": "null"}}, "required": ["image", "text"]}}})",
    R"({"application/json": {"schema": {"type": "object", "properties": {"logits": {"$ref": "#/components/schemas/Vectors"}, "probabilities": {"$ref": "#/components/schemas/Vectors"}, "image_embeddings": {"$ref": "#/components/schemas/Vectors"}, "text_embeddings": {"$ref": "#/components/schemas/Vectors"}, "model": {"type": "string"}}, "required": ["logits", "probabilities", "image_embeddings", "text_embeddings", "model"]}}})"};

void post_infer(Service& service, const CallPtr& call, const Reply& reply) {
  // Beside the body: the pixels (half of it at the most), and the rest of the text, which is parsed as JSON.
  InferBody body;
  {
    const BodyLimits limits = service.body_limits();
    const Extra counted(call->memory, call->body.size() * 3, "parsing the body");
    body = parse_infer(std::move(call->body), limits);
  }
  call->wishes.take(body.wishes);
  const std::size_t images = body.images.size(), texts = body.texts.size();
  const auto width = static_cast<std::size_t>(service.info().embed_dim);
  call->memory.add(json_bytes(images + texts, width) + images * texts * 32, "the answer");
  std::vector<Input> inputs = std::move(body.images);
  for (Input& text : body.texts) inputs.push_back(std::move(text));
  embed(service, call, reply, std::move(inputs), {}, names_in({{"image", images}, {"text", texts}}),
        [&service, reply, images](const Vectors& vectors) {
          reply(infer_answer(vectors, images, service.info().logit_scale, service.model_name()));
        });
}

}  // namespace tandem::server
