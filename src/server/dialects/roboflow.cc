// The dialect of Roboflow Inference: POST /clip/embed_image, /clip/embed_text and /clip/compare.
#include "base/strings.h"
#include "server/dialects/bodies.h"
#include "server/dialects/tei.h"
#include "server/read_input.h"
#include "server/routes.h"
#include "server/vectors.h"

namespace tandem::server {
namespace {

/// {"type": "base64" | "url", "value": …}, or the value alone.
Input picture_of(Value value, const std::string& what, const BodyLimits& limits) {
  Object fields;
  if (value.get(fields)) return read_input(value, what, Strings::images, limits);
  Value type, content;
  const std::string param = param_of(what);
  if (!field_of(fields, "value", content)) wrong(param, cat(what, " has no \"value\""));
  const std::string_view text = string_of(content, what + ".value", param);
  if (!field_of(fields, "type", type)) return image_from_string(text, what, limits.allow_urls);
  const std::string_view kind = string_of(type, what + ".type", param);
  if (kind == "base64") return image_from_string(text, what, limits.allow_urls);
  if (kind == "url") return image_from_data_uri(text, what, limits.allow_urls);
  throw FieldError(Code::unsupported,
                   cat(what, ".type is \"", kind.substr(0, 32), "\"; \"base64\" and \"url\" are read"), param);
}

/// One or a list, as pictures or as texts.
std::vector<Input> side_of(Value value, const std::string& name, bool pictures, const BodyLimits& limits) {
  const auto one = [&](Value item, const std::string& what) {
    if (pictures) return picture_of(item, what, limits);
    return Input(checked_text(string_of(item, what, name), what, name, limits));
  };
  std::vector<Input> inputs;
  List list;
  if (value.get(list)) {
    inputs.push_back(one(value, name));
    return inputs;
  }
  check_count(list.size(), pictures ? "images" : "texts", name, limits);
  for (Value item : list) inputs.push_back(one(item, cat(name, "[", inputs.size(), "]")));
  if (inputs.empty()) wrong(name, cat("\"", name, "\" is an empty list; give at least one"));
  return inputs;
}

RoboflowBody field_as(const std::string& json, const char* name, bool pictures, const BodyLimits& limits) {
  RoboflowBody body;
  Document(json, limits).for_each([&](std::string_view key, Value value) {
    if (key == name) {
      body.inputs = side_of(value, name, pictures, limits);
    } else {
      take_wish(key, value, body.wishes);
    }
  });
  if (body.inputs.empty()) wrong(name, cat("\"", name, "\" is missing"));
  return body;
}

bool is_picture_type(Object fields, const char* name, bool otherwise) {
  Value value;
  if (!field_of(fields, name, value)) return otherwise;
  const std::string_view type = string_of(value, cat("\"", name, "\""), name);
  if (type != "image" && type != "text") {
    wrong(name, cat("\"", name, "\" must be \"image\" or \"text\", not \"", type.substr(0, 32), "\""));
  }
  return type == "image";
}

/// ,"time":0.0123}: what ends every answer.
std::string ending(const TeiClock& clock) {
  const std::chrono::duration<float> passed = std::chrono::steady_clock::now() - clock.begin;
  std::string out = ",\"frame_id\":null,\"time\":";
  append_number(passed.count(), out);
  return out += '}';
}

void answer_embeddings(Service& service, const CallPtr& call, const Reply& reply, RoboflowBody body, const char* name) {
  const TeiClock clock;
  call->wishes.take(body.wishes);
  const std::size_t count = body.inputs.size();
  call->memory.add(json_bytes(count, static_cast<std::size_t>(service.info().embed_dim)), "the answer");
  embed(
      service, call, reply, std::move(body.inputs), {}, names_in(name, count),
      [reply, clock](const Vectors& vectors) {
        require_all(vectors);
        Answer answer;
        answer.body = "{\"embeddings\":";
        append_vectors(vectors, 0, vectors.items.size(), answer.body);
        answer.body += ending(clock);
        reply(std::move(answer));
      },
      true);
}

}  // namespace

RoboflowBody parse_roboflow_images(const std::string& json, const BodyLimits& limits) {
  return field_as(json, "image", true, limits);
}

RoboflowBody parse_roboflow_texts(const std::string& json, const BodyLimits& limits) {
  return field_as(json, "text", false, limits);
}

RoboflowCompareBody parse_roboflow_compare(const std::string& json, const BodyLimits& limits) {
  RoboflowCompareBody body;
  const Document document(json, limits);
  const Object fields = document.fields();
  const bool subject_is_picture = is_picture_type(fields, "subject_type", true);
  const bool prompt_is_picture = is_picture_type(fields, "prompt_type", false);
  bool given = false;
  document.for_each([&](std::string_view key, Value value) {
    if (key == "subject") {
      std::vector<Input> one = side_of(value, "subject", subject_is_picture, limits);
      if (one.size() != 1) wrong("subject", cat("\"subject\" must be one, not ", one.size()));
      body.subject = std::move(one.front());
      given = true;
    } else if (key == "prompt") {
      Object named;
      Value type;
      if (value.get(named) || (prompt_is_picture && field_of(named, "value", type))) {
        body.prompts = side_of(value, "prompt", prompt_is_picture, limits);
        return;
      }
      check_count(named.size(), "prompts", "prompt", limits);
      for (const auto [name, prompt] : named) {
        body.names.emplace_back(name);
        std::vector<Input> one = side_of(prompt, "prompt", prompt_is_picture, limits);
        if (one.size() != 1) wrong("prompt", "a named prompt must be one text or picture");
        body.prompts.push_back(std::move(one.front()));
      }
    } else {
      take_wish(key, value, body.wishes);
    }
  });
  if (!given) wrong("subject", "\"subject\" is missing");
  if (body.prompts.empty()) wrong("prompt", "\"prompt\" is missing or empty");
  return body;
}

const ApiOperation kRoboflowImageOperation{
    "Roboflow", "Pictures to vectors",
    R"({"application/json": {"schema": {"type": "object", "properties": {"image": {"anyOf": [{"anyOf": [{"$ref": "#/components/schemas/Picture"}, {"type": "object", "properties": {"type": {"const": "base64"}, "value": {"$ref": "#/components/schemas/Picture"}}, "required": ["value"]}]}, {"type": "array", "minItems": 1, "items": {"anyOf": [{"$ref": "#/components/schemas/Picture"}, {"type": "object", "properties": {"type": {"const": "base64"}, "value": {"$ref": "#/components/schemas/Picture"}}, "required": ["value"]}]}}]}}, "required": ["image"]}}})",
    R"({"application/json": {"schema": {"type": "object", "properties": {"embeddings": {"$ref": "#/components/schemas/Vectors"}, "time": {"type": "number"}, "frame_id": {"type": "null"}}, "required": ["embeddings", "time"]}}})"};

void post_roboflow_image(Service& service, const CallPtr& call, const Reply& reply) {
  answer_embeddings(
      service, call, reply,
      take_body(service, *call, [&](const BodyLimits& limits) { return parse_roboflow_images(call->body, limits); }),
      "image");
}

const ApiOperation kRoboflowTextOperation{
    "Roboflow", "Texts to vectors",
    R"({"application/json": {"schema": {"type": "object", "properties": {"text": {"anyOf": [{"$ref": "#/components/schemas/Text"}, {"type": "array", "items": {"$ref": "#/components/schemas/Text"}, "minItems": 1}]}}, "required": ["text"]}}})",
    R"({"application/json": {"schema": {"type": "object", "properties": {"embeddings": {"$ref": "#/components/schemas/Vectors"}, "time": {"type": "number"}, "frame_id": {"type": "null"}}, "required": ["embeddings", "time"]}}})"};

void post_roboflow_text(Service& service, const CallPtr& call, const Reply& reply) {
  answer_embeddings(
      service, call, reply,
      take_body(service, *call, [&](const BodyLimits& limits) { return parse_roboflow_texts(call->body, limits); }),
      "text");
}

const ApiOperation kRoboflowCompareOperation{
    "Roboflow", "Cosines of a picture or a text with others",
    R"({"application/json": {"schema": {"type": "object", "properties": {"subject": {"anyOf": [{"$ref": "#/components/schemas/Picture"}, {"type": "object", "properties": {"type": {"const": "base64"}, "value": {"$ref": "#/components/schemas/Picture"}}, "required": ["value"]}]}, "subject_type": {"const": "image"}, "prompt": {"anyOf": [{"$ref": "#/components/schemas/Text"}, {"type": "array", "items": {"$ref": "#/components/schemas/Text"}, "minItems": 1}, {"type": "object", "minProperties": 1, "additionalProperties": {"$ref": "#/components/schemas/Text"}}]}, "prompt_type": {"const": "text"}}, "required": ["subject", "prompt"]}}})",
    R"({"application/json": {"schema": {"type": "object", "properties": {"similarity": {"anyOf": [{"$ref": "#/components/schemas/Vector"}, {"type": "object", "additionalProperties": {"type": "number"}}]}, "time": {"type": "number"}, "frame_id": {"type": "null"}, "parent_id": {"type": "null"}}, "required": ["similarity", "time"]}}})"};

void post_roboflow_compare(Service& service, const CallPtr& call, const Reply& reply) {
  const TeiClock clock;
  RoboflowCompareBody body =
      take_body(service, *call, [&](const BodyLimits& limits) { return parse_roboflow_compare(call->body, limits); });
  call->wishes.take(body.wishes);
  std::size_t bytes = 128 + 24 * body.prompts.size();
  for (const std::string& name : body.names) bytes += json_size(name);
  call->memory.add(bytes, "the answer");
  const NameOf names = names_in({{"subject", 1}, {"prompt", body.prompts.size()}});
  std::vector<Input> inputs;
  inputs.push_back(std::move(body.subject));
  for (Input& prompt : body.prompts) inputs.push_back(std::move(prompt));
  embed(service, call, reply, std::move(inputs), {}, names,
        [reply, clock, prompts = std::move(body.names)](const Vectors& vectors) {
          require_all(vectors);
          Answer answer;
          answer.body = prompts.empty() ? "{\"similarity\":[" : "{\"similarity\":{";
          for (std::size_t i = 1; i < vectors.items.size(); ++i) {
            if (i > 1) answer.body += ',';
            if (!prompts.empty()) answer.body += json_string(prompts[i - 1]) + ":";
            append_number(cosine(vectors.items[0].values, vectors.items[i].values), answer.body);
          }
          answer.body += prompts.empty() ? ']' : '}';
          answer.body += ",\"parent_id\":null" + ending(clock);
          reply(std::move(answer));
        });
}

}  // namespace tandem::server
