// POST /api: one picture to its feature vector, as the tower leaves it ("pooled") or in the joint space ("projected").
#include "base/strings.h"
#include "server/dialects/bodies.h"
#include "server/multipart.h"
#include "server/read_input.h"
#include "server/routes.h"
#include "server/vectors.h"

namespace tandem::server {
namespace {

bool add_field(std::string_view name, std::string_view value, FeatureBody& body) {
  if (name == "feature") {
    if (value != "pooled" && value != "projected") {
      wrong("feature", cat("\"feature\" must be \"pooled\" or \"projected\", not \"", value.substr(0, 32), "\""));
    }
    body.options.feature = tandem::parse_feature(value);
  } else if (name == "normalize") {
    if (value != "true" && value != "false") wrong("normalize", "\"normalize\" must be true or false");
    body.options.normalize = value == "true";
  } else {
    return false;
  }
  return true;
}

void check(const FeatureBody& body) {
  if (!body.image) wrong("image", "no picture: give \"image\" as base64, a data URI or a file of a form");
}

}  // namespace

FeatureBody parse_feature(const std::string& json, const BodyLimits& limits) {
  FeatureBody body;
  Document(json, limits).for_each([&](std::string_view key, Value value) {
    if (key == "image") {
      body.image = read_input(value, "image", Strings::images, limits);
    } else if (key == "feature") {
      add_field(key, string_of(value, "\"feature\"", "feature"), body);
    } else if (key == "normalize") {
      body.options.normalize = bool_of(value, "normalize");
    } else {
      take_wish(key, value, body.wishes);
    }
  });
  check(body);
  return body;
}

FeatureBody parse_feature_form(std::string_view bytes, std::string_view content_type, const BodyLimits& limits) {
  constexpr std::size_t kParts = 1024;
  FeatureBody body;
  for (const Part& part : parse_multipart(bytes, content_type, kParts)) {
    const bool picture = part.file || part.name == "image" || part.name == "file";
    if (picture && body.image) wrong("image", "the form has several pictures; /v1/embeddings takes many at once");
    if (picture) {
      body.image = part.file ? Input(copy_of(part.data)) : image_from_string(part.data, "image", limits.allow_urls);
    } else {
      add_field(part.name, part.data, body);
    }
  }
  check(body);
  return body;
}

FeatureBody parse_feature_picture(std::string_view bytes, std::string_view query) {
  FeatureBody body;
  for (const char* name : {"feature", "normalize"}) {
    const std::string value = query_value(query, name);
    if (!value.empty()) add_field(name, value, body);
  }
  if (!bytes.empty()) body.image = copy_of(bytes);
  check(body);
  return body;
}

const ApiOperation kFeatureOperation{
    "vectors", "One picture to its feature vector",
    R"({"application/json": {"schema": {"type": "object", "properties": {"image": {"$ref": "#/components/schemas/Picture"}, "feature": {"type": "string", "enum": ["pooled", "projected"]}, "normalize": {"type": "boolean"}}, "required": ["image"]}}})",
    R"({"application/json": {"schema": {"type": "object", "properties": {"feature": {"type": "string"}, "dimension": {"type": "integer"}, "vector": {"$ref": "#/components/schemas/Vector"}, "model": {"type": "string"}}, "required": ["feature", "dimension", "vector", "model"]}}, "application/x-npy": {"schema": {"type": "string", "format": "binary"}}, "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}})"};

void post_feature(Service& service, const CallPtr& call, const Reply& reply) {
  FeatureBody body;
  if (call->content_type.starts_with("multipart/form-data")) {
    body = take_bytes(service, *call, [&](const BodyLimits& limits) {
      return parse_feature_form(call->body, call->content_type, limits);
    });
  } else if (call->content_type.starts_with("image/") || call->content_type.starts_with("application/octet-stream")) {
    body =
        take_bytes(service, *call, [&](const BodyLimits&) { return parse_feature_picture(call->body, call->query); });
  } else {
    body = take_body(service, *call, [&](const BodyLimits& limits) { return parse_feature(call->body, limits); });
  }
  call->wishes.take(body.wishes);
  const bool pooled = body.options.feature == Feature::pooled;
  const EngineInfo& info = service.info();
  const int width = pooled ? info.vision_width : info.embed_dim;
  const Wire wire = wire_of(call->accept);
  call->memory.add(json_bytes(1, static_cast<std::size_t>(width)), "the answer");
  std::vector<Input> inputs;
  inputs.push_back(std::move(*body.image));
  embed(service, call, reply, std::move(inputs), body.options, names_in("image", 1),
        [&service, reply, pooled, wire](const Vectors& vectors) {
          require_all(vectors);
          const std::vector<float>& values = vectors.items.at(0).values;
          if (wire.kind != Wire::json) return reply(binary_answer(vectors, values.size(), wire));
          Answer answer;
          answer.body = cat("{\"feature\":\"", pooled ? "pooled" : "projected", "\",\"dimension\":", values.size(),
                            ",\"vector\":");
          append_vector(values, false, answer.body);
          answer.body += cat(",\"model\":", json_string(service.model_name()), "}");
          reply(std::move(answer));
        });
}

}  // namespace tandem::server
