// The dialect of Cohere's embedding API, which vLLM speaks too: POST /v1/embed and /v2/embed. Its rerank is in
// rerank.cc.
#include <algorithm>

#include "base/strings.h"
#include "server/dialects/bodies.h"
#include "server/ids.h"
#include "server/models.h"
#include "server/read_input.h"
#include "server/routes.h"
#include "server/vectors.h"

namespace tandem::server {
namespace {

constexpr std::pair<std::string_view, CohereType> kTypes[] = {{"float", CohereType::values},
                                                              {"base64", CohereType::base64},
                                                              {"binary", CohereType::binary},
                                                              {"ubinary", CohereType::ubinary}};

/// Names, each kept once.
std::vector<CohereType> types_of(Value value) {
  std::vector<CohereType> types;
  const auto add = [&](Value one) {
    const std::string_view name = string_of(one, "embedding_types", "embedding_types");
    const auto* const known =
        std::find_if(std::begin(kTypes), std::end(kTypes), [&](const auto& type) { return type.first == name; });
    if (known == std::end(kTypes)) {
      wrong("embedding_types",
            cat("embedding_types: \"", name.substr(0, 32),
                "\" is not computed here: ask for \"float\", \"base64\", \"binary\" or \"ubinary\""));
    }
    if (std::find(types.begin(), types.end(), known->second) == types.end()) types.push_back(known->second);
  };
  List list;
  if (value.get(list)) wrong("embedding_types", cat("\"embedding_types\" must be a list, not ", kind_of(value)));
  for (Value one : list) add(one);
  return types;
}

/// Texts and images are strings, inputs are objects with "content".
void check_items(List list, const std::string& name) {
  std::size_t index = 0;
  for (Value item : list) {
    const std::string what = cat(name, "[", index++, "]");
    Object fields;
    Value content;
    if (name != "inputs") {
      string_of(item, what, name);
    } else if (item.get(fields) || !field_of(fields, "content", content)) {
      wrong(name, cat(what, " must be an object with \"content\""));
    }
  }
}

/// Whether texts that are too long are to be refused; where they are cut, they are cut at their end.
bool refuses_long(std::string_view truncate) {
  if (truncate != "NONE" && truncate != "END") {
    wrong("truncate", cat("\"truncate\" must be \"NONE\" or \"END\", not \"", truncate.substr(0, 32),
                          "\": texts are cut at their end only"));
  }
  return truncate == "NONE";
}

/// Eight signs to a byte, the first in its highest bit; "binary" counts from -128.
void append_bits(const std::vector<float>& values, bool is_signed, std::string& out) {
  out += '[';
  for (std::size_t i = 0; i < values.size(); i += 8) {
    int byte = 0;
    for (std::size_t bit = 0; bit < 8; ++bit) byte = byte << 1 | (values[i + bit] >= 0 ? 1 : 0);
    out += cat(i > 0 ? "," : "", is_signed ? byte - 128 : byte);
  }
  out += ']';
}

void append_all(const Vectors& vectors, CohereType type, std::string& out) {
  out += '[';
  for (std::size_t i = 0; i < vectors.items.size(); ++i) {
    if (i > 0) out += ',';
    const std::vector<float>& values = vectors.items[i].values;
    if (type == CohereType::binary || type == CohereType::ubinary) {
      append_bits(values, type == CohereType::binary, out);
    } else {
      append_vector(values, type == CohereType::base64, out);
    }
  }
  out += ']';
}

/// {"float": [[…]], …}; where a client of the first version named no type, the list alone.
std::string embeddings_of(const Vectors& vectors, const std::vector<CohereType>& types, bool bare) {
  std::string out;
  if (bare) {
    append_all(vectors, CohereType::values, out);
    return out;
  }
  for (const CohereType type : types) {
    const auto* const name =
        std::find_if(std::begin(kTypes), std::end(kTypes), [&](const auto& one) { return one.second == type; });
    out += cat(out.empty() ? "{\"" : ",\"", name->first, "\":");
    append_all(vectors, type, out);
  }
  return out += '}';
}

}  // namespace

CohereBody parse_cohere(const std::string& json, const BodyLimits& limits) {
  CohereBody body;
  std::string given;
  Document(json, limits).for_each([&](std::string_view key, Value value) {
    if (key == "texts" || key == "images" || key == "inputs") {
      if (!given.empty()) wrong(std::string(key), cat("give only one of \"", given, "\" and \"", key, "\""));
      given = key;
      List list;
      if (value.get(list)) wrong(given, cat("\"", given, "\" must be a list, not ", kind_of(value)));
      check_items(list, given);
      body.inputs = read_inputs(value, given, key == "images" ? Strings::images : Strings::texts, limits);
      require_inputs(body.inputs, given);
      if (key != "texts") return;
      for (Value text : list) body.texts.push_back(json_string(string_of(text, "texts", "texts")));
    } else if (key == "model") {
      body.model = string_of(value, "\"model\"", "model");
    } else if (key == "embedding_types") {
      body.types = types_of(value);
    } else if (key == "output_dimension") {
      body.dimensions = static_cast<int>(integer_of(value, "output_dimension", 1, 1 << 20));
    } else if (key == "truncate") {
      body.refuse_long = refuses_long(string_of(value, "\"truncate\"", "truncate"));
    } else if (key == "input_type") {
      string_of(value, "\"input_type\"", "input_type");
    } else if (key != "priority" || !value.is_number()) {  // Cohere's is a number of its own scale
      take_wish(key, value, body.wishes);
    }
  });
  if (given.empty()) wrong("texts", "give \"texts\", \"images\" or \"inputs\", a list");
  body.name = given;
  return body;
}

const ApiOperation kCohereOperation{
    "vectors", "Texts and pictures to vectors (Cohere, vLLM)",
    R"({"application/json": {"schema": {"anyOf": [{"type": "object", "properties": {"texts": {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/Text"}}, "images": {"type": "null"}, "inputs": {"type": "null"}, "model": {"$ref": "#/components/schemas/Model"}, "input_type": {"type": "string"}, "embedding_types": {"type": "array", "items": {"enum": ["float", "base64"]}}, "output_dimension": {"type": "integer", "minimum": 1, "maximum": "$WIDTH"}, "truncate": {"const": "END"}, "priority": {"anyOf": [{"type": "string", "enum": ["high", "normal"]}, {"type": "number"}]}}, "required": ["texts"]}, {"type": "object", "properties": {"images": {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/Picture"}}, "texts": {"type": "null"}, "inputs": {"type": "null"}, "model": {"$ref": "#/components/schemas/Model"}, "input_type": {"type": "string"}, "embedding_types": {"type": "array", "items": {"enum": ["float", "base64"]}}, "output_dimension": {"type": "integer", "minimum": 1, "maximum": "$WIDTH"}, "truncate": {"const": "END"}, "priority": {"anyOf": [{"type": "string", "enum": ["high", "normal"]}, {"type": "number"}]}}, "required": ["images"]}, {"type": "object", "properties": {"inputs": {"type": "array", "minItems": 1, "items": {"type": "object", "properties": {"content": {"$ref": "#/components/schemas/Content"}, "text": {"type": "null"}, "image": {"type": "null"}, "image_url": {"type": "null"}, "url": {"type": "null"}, "bytes": {"type": "null"}}, "required": ["content"]}}, "texts": {"type": "null"}, "images": {"type": "null"}, "model": {"$ref": "#/components/schemas/Model"}, "input_type": {"type": "string"}, "embedding_types": {"type": "array", "items": {"enum": ["float", "base64"]}}, "output_dimension": {"type": "integer", "minimum": 1, "maximum": "$WIDTH"}, "truncate": {"const": "END"}, "priority": {"anyOf": [{"type": "string", "enum": ["high", "normal"]}, {"type": "number"}]}}, "required": ["inputs"]}]}}})", R"({"application/json": {"schema": {"type": "object", "properties": {"id": {"type": "string"}, "embeddings": {"anyOf": [{"$ref": "#/components/schemas/Vectors"}, {"type": "object"}]}, "texts": {"type": "array", "items": {"type": "string"}}, "meta": {"type": "object"}, "response_type": {"enum": ["embeddings_floats", "embeddings_by_type"]}}, "required": ["id", "embeddings", "texts", "meta", "response_type"]}}})"};

void post_cohere(Service& server, const CallPtr& call, const Reply& reply) {
  CohereBody body =
      take_body(server, *call, [&](const BodyLimits& limits) { return parse_cohere(call->body, limits); });
  call->wishes.take(body.wishes);
  Service& service = model_of(server, body.model);
  const auto full = static_cast<std::size_t>(service.info().embed_dim);
  const std::size_t width = body.dimensions == 0 ? full : static_cast<std::size_t>(body.dimensions);
  if (width > full) {
    throw FieldError(Code::invalid_argument,
                     cat("\"output_dimension\" is ", width, "; this model's vectors have ", full), "output_dimension");
  }
  const bool first = call->path == "/v1/embed", bare = first && body.types.empty();
  if (body.types.empty()) body.types.push_back(CohereType::values);
  const bool bits = std::any_of(body.types.begin(), body.types.end(), [](CohereType type) {
    return type == CohereType::binary || type == CohereType::ubinary;
  });
  if (bits && width % 8 != 0) {
    throw FieldError(Code::invalid_argument,
                     cat("embedding_types: a vector of ", width,
                         " values does not fill whole bytes: give an "
                         "\"output_dimension\" that 8 divides"),
                     "embedding_types");
  }
  std::size_t bytes = body.types.size() * json_bytes(body.inputs.size(), width);
  for (const std::string& text : body.texts) bytes += text.size() + 1;
  call->memory.add(bytes, "the answer");
  const NameOf names = names_in(body.name, body.inputs.size());
  const auto pictures =
      static_cast<std::size_t>(std::count_if(body.inputs.begin(), body.inputs.end(), [](const Input& input) {
        return !std::holds_alternative<std::string>(input) && !std::holds_alternative<std::vector<std::int32_t>>(input);
      }));
  std::string texts;
  for (const std::string& text : body.texts) texts += (texts.empty() ? "" : ",") + text;
  embed(
      service, call, reply, std::move(body.inputs), {}, names,
      [&service, reply, first, bare, width, pictures, texts = std::move(texts), types = std::move(body.types),
       name = body.name, refuse = body.refuse_long](Vectors vectors) {
        require_all(vectors);
        if (refuse && vectors.truncated()) {
          throw FieldError(Code::invalid_argument,
                           cat(name, ": a text has more than ", service.info().context_length,
                               " tokens: shorten it, or give \"truncate\": \"END\""),
                           name);
        }
        for (Embedding& item : vectors.items) shorten(item.values, width);
        Answer answer;
        answer.body = cat("{\"id\":\"", random_uuid(), "\",\"embeddings\":", embeddings_of(vectors, types, bare),
                          ",\"texts\":[", texts, "],\"meta\":{\"api_version\":{\"version\":\"", first ? 1 : 2,
                          "\"},\"billed_units\":{\"input_tokens\":", vectors.tokens(), ",\"images\":", pictures,
                          "}},\"response_type\":\"", bare ? "embeddings_floats" : "embeddings_by_type", "\"}");
        reply(std::move(answer));
      },
      true);
}

}  // namespace tandem::server
