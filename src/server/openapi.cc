// GET /openapi.json, made from the table of routes, and the /docs page that reads it.
#include "server/openapi.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "server/models.h"
#include "server/operation.h"
#include "server/routes.h"
#include "tandem/version.h"

namespace tandem::server {
namespace {

using nlohmann::json;

constexpr const char* kComponents = R"({
  "Text": {"type": "string", "description": "A text. Longer ones are cut to the model's context."},
  "TokenIds": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": "$LAST_TOKEN"}, "minItems": 1, "maxItems": "$CONTEXT", "description": "A text as the model's own token ids, with start and end."},
  "Picture": {"type": "string", "format": "picture", "minLength": 8, "description": "JPEG, PNG, WebP, BMP or GIF as a data URI or as bare base64; a URL where the server was started with --allow-urls.", "examples": ["$PICTURE"]},
  "PictureUri": {"type": "string", "format": "picture-uri", "minLength": 8, "description": "JPEG, PNG, WebP, BMP or GIF as a data URI; a URL where the server was started with --allow-urls.", "examples": ["$PICTURE"]},
  "TextPart": {"type": "object", "properties": {"type": {}, "text": {"$ref": "#/components/schemas/Text"}, "image": {"type": "null"}, "image_url": {"type": "null"}, "url": {"type": "null"}, "bytes": {"type": "null"}, "content": {"type": "null"}}, "required": ["text"]},
  "PicturePart": {"type": "object", "properties": {"type": {}, "image": {"$ref": "#/components/schemas/Picture"}, "text": {"type": "null"}, "image_url": {"type": "null"}, "url": {"type": "null"}, "bytes": {"type": "null"}, "content": {"type": "null"}}, "required": ["image"]},
  "UrlPart": {"type": "object", "properties": {"type": {}, "image_url": {"anyOf": [{"$ref": "#/components/schemas/PictureUri"}, {"type": "object", "properties": {"url": {"$ref": "#/components/schemas/PictureUri"}}, "required": ["url"]}]}, "text": {"type": "null"}, "image": {"type": "null"}, "url": {"type": "null"}, "bytes": {"type": "null"}, "content": {"type": "null"}}, "required": ["image_url"]},
  "Item": {"anyOf": [{"$ref": "#/components/schemas/TextPart"}, {"$ref": "#/components/schemas/PicturePart"}, {"$ref": "#/components/schemas/UrlPart"}, {"type": "object", "properties": {"url": {"$ref": "#/components/schemas/PictureUri"}, "text": {"type": "null"}, "image": {"type": "null"}, "image_url": {"type": "null"}, "bytes": {"type": "null"}, "content": {"type": "null"}}, "required": ["url"]}, {"type": "object", "properties": {"bytes": {"$ref": "#/components/schemas/Picture"}, "text": {"type": "null"}, "image": {"type": "null"}, "image_url": {"type": "null"}, "url": {"type": "null"}, "content": {"type": "null"}}, "required": ["bytes"]}, {"type": "object", "properties": {"content": {"$ref": "#/components/schemas/Content"}, "text": {"type": "null"}, "image": {"type": "null"}, "image_url": {"type": "null"}, "url": {"type": "null"}, "bytes": {"type": "null"}}, "required": ["content"]}]},
  "Content": {"anyOf": [{"$ref": "#/components/schemas/Text"}, {"type": "array", "minItems": 1, "maxItems": 1, "items": {"anyOf": [{"$ref": "#/components/schemas/TextPart"}, {"$ref": "#/components/schemas/UrlPart"}]}}]},
  "Comparable": {"anyOf": [{"$ref": "#/components/schemas/Text"}, {"$ref": "#/components/schemas/TokenIds"}, {"$ref": "#/components/schemas/Item"}]},
  "Comparables": {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/Comparable"}},
  "Inputs": {"description": "One input or a list: texts, token ids, pictures, mixed as you like. A string that is a data URI of a picture is that picture.", "anyOf": [{"$ref": "#/components/schemas/Text"}, {"$ref": "#/components/schemas/TokenIds"}, {"$ref": "#/components/schemas/Item"}, {"type": "array", "minItems": 1, "items": {"anyOf": [{"$ref": "#/components/schemas/Text"}, {"$ref": "#/components/schemas/Item"}]}}, {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/TokenIds"}}]},
  "Vector": {"type": "array", "items": {"type": "number"}},
  "Vectors": {"type": "array", "items": {"$ref": "#/components/schemas/Vector"}},
  "Model": {"type": "string", "enum": "$MODELS"},
  "Timeout": {"type": "number", "exclusiveMinimum": 0, "maximum": 86400, "description": "Seconds from the end of the request's head after which the answer is of no use. What has not begun by then is not computed, and the request is answered 504."},
  "Usage": {"type": "object", "properties": {"prompt_tokens": {"type": "integer"}, "total_tokens": {"type": "integer"}}, "required": ["prompt_tokens", "total_tokens"]},
  "CacheCounts": {"type": "object", "properties": {"entries": {"type": "integer"}, "hits": {"type": "integer"}, "misses": {"type": "integer"}}, "required": ["entries", "hits", "misses"]},
  "ItemError": {"type": "object", "properties": {"code": {"type": "string"}, "message": {"type": "string"}}, "required": ["code", "message"]},
  "Error": {"type": "object", "properties": {"error": {"type": "object", "properties": {"message": {"type": "string"}, "type": {"type": "string"}, "code": {"type": "string"}, "param": {"type": ["string", "null"]}}, "required": ["message", "type", "code", "param"]}}, "required": ["error"]},
  "TeiError": {"type": "object", "properties": {"error": {"type": "string"}, "error_type": {"type": "string", "enum": ["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty"]}}, "required": ["error", "error_type"]},
  "BareError": {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]},
  "MessageError": {"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]}
})";

/// A valid picture for examples: 2 x 2 pixels.
constexpr const char* kPicture =
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD"
    "91JpzAAAAEklEQVR42mM4IWejEbCAAUIBAB+ABHUQ9kbKAAAAAElFTkSuQmCC";

/// A field that may be missing may as well be null.
void allow_null(json& schema) {
  if (schema.is_object() && schema.contains("properties")) {
    const json required = schema.value("required", json::array());
    for (auto& [name, field] : schema["properties"].items()) {
      allow_null(field);
      if (std::find(required.begin(), required.end(), name) == required.end() && !field.empty()) {
        field = {{"anyOf", {field, {{"type", "null"}}}}};
      }
    }
  } else if (schema.is_structured()) {
    for (json& inner : schema) allow_null(inner);
  }
}

const char* error_schema(Errors errors) {
  switch (errors) {
    case Errors::openai: return "Error";
    case Errors::tei: return "TeiError";
    case Errors::bare: return "BareError";
    case Errors::message: return "MessageError";
  }
  return "Error";
}

/// Bodies that are JSON objects may say how soon the answer is wanted.
void add_priority(json& content) {
  const auto body = content.find("application/json");
  if (body == content.end()) return;
  json& schema = (*body)["schema"];
  const auto add = [](json& object) {
    json& fields = object["properties"];
    if (!fields.contains("priority")) fields["priority"] = {{"type", "string"}, {"enum", {"high", "normal"}}};
  };
  if (schema.contains("properties")) return add(schema);
  if (schema.contains("anyOf")) std::for_each(schema["anyOf"].begin(), schema["anyOf"].end(), add);
}

/// What every operation with inputs takes besides. The parameter is among the components, and no operation refers to
/// it: a tool that fills in parameters by their schemas would ask for answers within a microsecond and take the 504
/// that it wished for for a fault of the server.
constexpr const char* kTimeout =
    "Takes the header X-Timeout (#/components/parameters/Timeout); a JSON object may have the field `timeout` "
    "(#/components/schemas/Timeout) instead, which counts where both are given.";

json components() {
  json out = {{"schemas", json::parse(kComponents)}};
  const json& timeout = out["schemas"]["Timeout"];
  out["parameters"]["Timeout"] = {{"name", "X-Timeout"},
                                  {"in", "header"},
                                  {"required", false},
                                  {"description", timeout["description"]},
                                  {"schema", {{"$ref", "#/components/schemas/Timeout"}}}};
  return out;
}

/// "$WIDTH" and the like to what this server knows; out of a list goes what is null there.
void fill_in(json& value, const json& facts) {
  const auto known = [&](const json& word) {
    return word.is_string() ? facts.find(word.get_ref<const std::string&>()) : facts.end();
  };
  if (const auto fact = known(value); fact != facts.end()) {
    value = *fact;
  } else if (value.is_structured()) {
    if (value.is_array()) {
      const auto gone = [&](const json& word) {
        const auto at = known(word);
        return at != facts.end() && at->is_null();
      };
      value.erase(std::remove_if(value.begin(), value.end(), gone), value.end());
    }
    for (json& inner : value) fill_in(inner, facts);
  }
}

json answers_of(const Route& route, bool needs_key) {
  const ApiOperation& operation = *route.operation;
  const auto refer = [](const char* name) { return json{{"$ref", std::string("#/components/schemas/") + name}}; };
  json schema = refer(error_schema(route.errors));
  if (operation.tei) schema = {{"anyOf", {schema, refer("TeiError")}}};
  const json error = {{"application/json", {{"schema", schema}}}};
  json answers;
  json good = {{"description", "What was asked for"}};
  if (operation.answer) good["content"] = json::parse(operation.answer);
  answers[std::to_string(operation.status)] = good;
  const auto add = [&](const char* status, const char* why) {
    answers[status] = {{"description", why}, {"content", error}};
  };
  if (route.method == "POST") {
    add(route.errors == Errors::tei ? "422" : "400", "The request is wrong: the message says what, and what to do");
    add("413", "A limit is exceeded; the message names it");
    add("429", "Too much is waiting: try again after Retry-After seconds");
    if (route.errors == Errors::tei) add("400", "There is no input");
  }
  if (needs_key) {
    answers["401"] = {{"description", "An API key is needed, or this one is not known"},
                      {"content", {{"application/json", {{"schema", refer("Error")}}}}}};
  }
  add("503", "Loading, stopping, or without a device that works");
  add("default", "Any other failure");
  return answers;
}

json facts_of(const Service& service) {
  const bool loaded = service.loaded();
  json models = names_of(service);
  if (std::find(models.begin(), models.end(), "default") == models.end()) models.push_back("default");
  int width = 0;
  for (const Service* model : service.models()) width = std::max(width, model->loaded() ? model->info().embed_dim : 0);
  const ServerOptions& options = service.options();
  const bool labels = loaded && !service.defaults().labels.empty();
  return {{"$MODELS", models},
          {"$LABELS", labels ? json() : json("labels")},  // required by models that have none of their own
          {"$PICTURE", kPicture},
          {"$ITEMS", options.max_items},
          {"$WIDTH", width > 0 ? width : 1 << 20},
          {"$CONTEXT", loaded ? service.info().context_length : 77},
          {"$LAST_TOKEN", loaded ? service.info().vocab_size - 1 : 49407}};
}

}  // namespace

std::string openapi_json(const Service& service) {
  const json facts = facts_of(service);
  json document = {
      {"openapi", "3.1.0"},
      {"info",
       {{"title", "Tandem"},
        {"version", version()},
        {"description",
         "CLIP inference: pictures and texts to vectors, labels and hits. Errors say what was wrong and "
         "what to do; fields that a route does not know are ignored. A request that has inputs may say how "
         "soon its answer is wanted: the header X-Priority (high or normal), and the header X-Timeout, "
         "seconds after which the answer is of no use and becomes 504; or the fields \"priority\" and "
         "\"timeout\" of a JSON body, which count where both are given."}}},
      {"servers", {{{"url", "/"}}}},
      {"components", components()}};
  const bool keys = !service.options().operation.api_key_file.empty();
  if (keys) {
    document["components"]["securitySchemes"] = {
        {"bearer", {{"type", "http"}, {"scheme", "bearer"}}},
        {"header", {{"type", "apiKey"}, {"in", "header"}, {"name", "X-API-Key"}}}};
  }
  const json known_key = {{{"bearer", json::array()}}, {{"header", json::array()}}};
  const json priority = {{"name", "X-Priority"},
                         {"in", "header"},
                         {"required", false},
                         // An empty header counts as missing.
                         {"schema", {{"type", "string"}, {"enum", {"high", "normal", ""}}}}};
  json& paths = document["paths"];
  for (const Route& route : routes()) {
    if (!route.operation) continue;
    const ApiOperation& operation = *route.operation;
    std::string path(route.path);
    if (path.ends_with("/*")) path.replace(path.size() - 1, 1, "{id}");
    std::string method(route.method);
    for (char& c : method) c = static_cast<char>(c - 'A' + 'a');
    json& entry = paths[path][method];
    const bool needs_key = keys && !is_open(route.method, route.path);
    entry = {{"tags", {operation.tag}}, {"summary", operation.summary}, {"responses", answers_of(route, needs_key)}};
    if (needs_key) entry["security"] = known_key;
    if (operation.body) {
      json content = json::parse(operation.body);
      if (operation.computes) add_priority(content);
      allow_null(content);
      entry["requestBody"] = {{"required", true}, {"content", std::move(content)}};
    }
    fill_in(entry, {{"$LEAST_WIDTH", route.path == "/v1/embeddings" ? 1 : 0}});
    if (operation.parameters) entry["parameters"] = json::parse(operation.parameters);
    if (route.method == "POST") entry["parameters"].push_back(priority);
    if (route.method == "POST" && operation.body && operation.computes) entry["description"] = kTimeout;
  }
  fill_in(document, facts);
  return document.dump();
}

void get_openapi(Service& service, const CallPtr&, const Reply& reply) {
  Answer answer;
  answer.body = openapi_json(service);
  answer.headers.emplace_back("Cache-Control", "no-cache");
  reply(std::move(answer));
}

const ApiOperation kOpenapiOperation{"about", "This description of the API", nullptr,
                                     R"({"application/json": {"schema": {"type": "object"}}})"};

}  // namespace tandem::server
