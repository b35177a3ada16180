// POST /v1/embeddings, /embeddings and /embeddings_image: OpenAI's shape, with pictures.
#include <algorithm>
#include <atomic>
#include <chrono>

#include "base/strings.h"
#include "server/ids.h"
#include "server/models.h"
#include "server/routes.h"
#include "server/vectors.h"

namespace tandem::server {
namespace {

struct Wanted {
  bool base64 = false, item_errors = false;
  bool dated = false;  ///< infinity's "id" and "created" beside OpenAI's fields
  std::size_t dimensions = 0, width = 0;
  Wire wire;
};

bool is_servers_fault(const Embedding& item) {
  return item.error && status_of(item.error->code) >= 429;
}

void append_row(const Embedding& item, std::size_t index, const Wanted& wanted, std::string& out) {
  out += cat(index > 0 ? "," : "", "{\"object\":\"embedding\",\"index\":", index, ",\"embedding\":");
  if (item.error) {
    out += cat("null,\"error\":{\"code\":", json_string(code_name(item.error->code)),
               ",\"message\":", json_string(item.error->message), "}}");
    return;
  }
  append_vector(item.values, wanted.base64, out);
  out += '}';
}

Answer answer_of(Vectors vectors, const Wanted& wanted, const std::string& model) {
  // With errors item by item only a server that could do nothing at all has failed.
  const bool all_lost = std::all_of(vectors.items.begin(), vectors.items.end(), is_servers_fault);
  if (!wanted.item_errors || all_lost) require_all(vectors);
  for (Embedding& item : vectors.items) shorten(item.values, wanted.dimensions);
  if (wanted.wire.kind != Wire::json) return binary_answer(vectors, wanted.width, wanted.wire);
  Answer answer;
  std::string& out = answer.body;
  out = "{\"object\":\"list\",\"data\":[";
  for (std::size_t i = 0; i < vectors.items.size(); ++i) append_row(vectors.items[i], i, wanted, out);
  const long tokens = vectors.tokens();
  out += cat("],\"model\":", json_string(model), ",\"usage\":{\"prompt_tokens\":", tokens, ",\"total_tokens\":", tokens,
             "}");
  if (wanted.dated) out += id_and_date("infinity");
  out += '}';
  return answer;
}

void answer_embeddings(Service& server, const CallPtr& call, const Reply& reply, EmbeddingsBody body) {
  call->wishes.take(body.wishes);
  Service& service = model_of(server, body.model);
  const auto full = static_cast<std::size_t>(service.info().embed_dim);
  Wanted wanted;
  wanted.base64 = body.base64;
  wanted.item_errors = body.item_errors;
  wanted.dated = call->path != "/v1/embeddings";
  wanted.dimensions = static_cast<std::size_t>(body.dimensions);
  wanted.width = wanted.dimensions == 0 ? full : wanted.dimensions;
  wanted.wire = wire_of(call->accept);
  if (wanted.dimensions > full) {
    throw FieldError(Code::invalid_argument,
                     cat("\"dimensions\" is ", body.dimensions, "; this model's vectors have ", full), "dimensions");
  }
  call->memory.add(json_bytes(body.inputs.size(), wanted.width, wanted.base64), "the answer");
  EmbedOptions options;
  options.normalize = body.normalize;
  const NameOf names = names_in("input", body.inputs.size());
  embed(
      service, call, reply, std::move(body.inputs), options, names,
      [reply, wanted, model = service.model_name()](Vectors vectors) {
        reply(answer_of(std::move(vectors), wanted, model));
      },
      true);
}

bool is(const Call& call, std::string_view type) {
  return call.content_type.starts_with(type);
}

}  // namespace

const ApiOperation kEmbeddingsOperation{
    "vectors",
    "Texts and pictures to vectors (OpenAI, infinity, NIM, sglang, Jina, vLLM, "
    "llama.cpp). Also a form "
    "(multipart/form-data), a picture (image/*) or npy of uint8 pixels N x H x W x "
    "3 "
    "(application/x-npy), with the other "
    "fields in the query",
    R"({"application/json": {"schema": {"anyOf": [{"type": "object", "properties": {"input": {"$ref": "#/components/schemas/Inputs"}, "model": {"$ref": "#/components/schemas/Model"}, "encoding_format": {"type": "string", "enum": ["float", "base64"]}, "dimensions": {"type": "integer", "minimum": "$LEAST_WIDTH", "maximum": "$WIDTH"}, "user": {"type": "string"}, "normalized": {"type": "boolean"}, "item_errors": {"type": "boolean", "description": "What is wrong with one input is said in its place; the others have their vectors."}, "modality": {"const": "text"}, "messages": {"type": "null"}, "embedding_type": {"anyOf": [{"enum": ["float", "base64"]}, {"type": "array", "minItems": 1, "maxItems": 1, "items": {"enum": ["float", "base64"]}}]}}, "required": ["input"]}, {"type": "object", "properties": {"messages": {"type": "array", "items": {"type": "object", "properties": {"role": {"const": "user"}, "content": {"$ref": "#/components/schemas/Content"}}, "required": ["role", "content"]}, "minItems": 1}, "model": {"$ref": "#/components/schemas/Model"}, "encoding_format": {"type": "string", "enum": ["float", "base64"]}, "dimensions": {"type": "integer", "minimum": "$LEAST_WIDTH", "maximum": "$WIDTH"}, "user": {"type": "string"}, "normalized": {"type": "boolean"}, "item_errors": {"type": "boolean", "description": "What is wrong with one input is said in its place; the others have their vectors."}, "modality": {"enum": ["text", "image"]}, "input": {"type": "null"}, "embedding_type": {"anyOf": [{"enum": ["float", "base64"]}, {"type": "array", "minItems": 1, "maxItems": 1, "items": {"enum": ["float", "base64"]}}]}}, "required": ["messages"]}, {"type": "object", "properties": {"modality": {"const": "image"}, "input": {"anyOf": [{"$ref": "#/components/schemas/Picture"}, {"type": "array", "items": {"$ref": "#/components/schemas/Picture"}, "minItems": 1}]}, "model": {"$ref": "#/components/schemas/Model"}, "encoding_format": {"type": "string", "enum": ["float", "base64"]}, "dimensions": {"type": "integer", "minimum": "$LEAST_WIDTH", "maximum": "$WIDTH"}, "user": {"type": "string"}, "normalized": {"type": "boolean"}, "item_errors": {"type": "boolean", "description": "What is wrong with one input is said in its place; the others have their vectors."}, "messages": {"type": "null"}, "embedding_type": {"anyOf": [{"enum": ["float", "base64"]}, {"type": "array", "minItems": 1, "maxItems": 1, "items": {"enum": ["float", "base64"]}}]}}, "required": ["input", "modality"]}]}}})",
    R"({"application/json": {"schema": {"type": "object", "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": {"type": "object", "properties": {"object": {"const": "embedding"}, "index": {"type": "integer"}, "embedding": {"anyOf": [{"$ref": "#/components/schemas/Vector"}, {"type": "string", "contentEncoding": "base64"}, {"type": "null"}]}, "error": {"$ref": "#/components/schemas/ItemError"}}, "required": ["object", "index", "embedding"]}}, "model": {"type": "string"}, "usage": {"$ref": "#/components/schemas/Usage"}, "id": {"type": "string"}, "created": {"type": "integer"}}, "required": ["object", "data", "model", "usage"]}}, "application/x-npy": {"schema": {"type": "string", "format": "binary"}}, "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}})"};

void post_embeddings(Service& service, const CallPtr& call, const Reply& reply) {
  EmbeddingsBody body;
  if (is(*call, "application/x-npy") || is(*call, "application/npy") || is(*call, "application/x-numpy")) {
    // Not copied: the pictures are the body.
    const std::shared_ptr<const std::string> bytes(new std::string(std::move(call->body)),
                                                   [bodies = service.bodies()](std::string* done) {
                                                     bodies->give(std::move(*done));
                                                     delete done;
                                                   });
    body = parse_embeddings_npy(bytes, call->query, service.body_limits());
  } else if (is(*call, "image/") || is(*call, "application/octet-stream")) {
    body = take_bytes(service, *call, [&](const BodyLimits& limits) {
      return parse_embeddings_picture(call->body, call->query, limits);
    });
  } else if (is(*call, "multipart/form-data")) {
    body = take_bytes(service, *call, [&](const BodyLimits& limits) {
      return parse_embeddings_form(call->body, call->content_type, limits);
    });
  } else {
    body = take_body(service, *call, [&](const BodyLimits& limits) {
      return parse_embeddings(call->body, limits, call->path != "/v1/embeddings");
    });
  }
  answer_embeddings(service, call, reply, std::move(body));
}

const ApiOperation kImageEmbeddingsOperation{
    "vectors", "Pictures to vectors (infinity)",
    R"({"application/json": {"schema": {"type": "object", "properties": {"input": {"anyOf": [{"$ref": "#/components/schemas/Picture"}, {"type": "array", "items": {"$ref": "#/components/schemas/Picture"}, "minItems": 1}]}, "model": {"$ref": "#/components/schemas/Model"}, "encoding_format": {"type": "string", "enum": ["float", "base64"]}, "dimensions": {"type": "integer", "minimum": "$LEAST_WIDTH", "maximum": "$WIDTH"}, "user": {"type": "string"}, "normalized": {"type": "boolean"}, "item_errors": {"type": "boolean", "description": "What is wrong with one input is said in its place; the others have their vectors."}}, "required": ["input"]}}})",
    R"({"application/json": {"schema": {"type": "object", "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": {"type": "object", "properties": {"object": {"const": "embedding"}, "index": {"type": "integer"}, "embedding": {"anyOf": [{"$ref": "#/components/schemas/Vector"}, {"type": "string", "contentEncoding": "base64"}, {"type": "null"}]}, "error": {"$ref": "#/components/schemas/ItemError"}}, "required": ["object", "index", "embedding"]}}, "model": {"type": "string"}, "usage": {"$ref": "#/components/schemas/Usage"}, "id": {"type": "string"}, "created": {"type": "integer"}}, "required": ["object", "data", "model", "usage"]}}, "application/x-npy": {"schema": {"type": "string", "format": "binary"}}, "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}})"};

void post_image_embeddings(Service& service, const CallPtr& call, const Reply& reply) {
  answer_embeddings(service, call, reply, take_body(service, *call, [&](const BodyLimits& limits) {
                      return parse_image_embeddings(call->body, limits);
                    }));
}

}  // namespace tandem::server
