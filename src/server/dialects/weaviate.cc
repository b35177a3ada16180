// The dialect of weaviate's multi2vec-clip: POST /vectorize, GET /meta, GET /.well-known/live and /.well-known/ready.
#include "base/strings.h"
#include "server/dialects/bodies.h"
#include "server/models.h"
#include "server/read_input.h"
#include "server/routes.h"
#include "server/vectors.h"

namespace tandem::server {

WeaviateBody parse_weaviate(const std::string& json, const BodyLimits& limits) {
  WeaviateBody body;
  bool given = false;
  const auto take = [&](const char* name, Value value, Strings strings) {
    given = true;
    List list;
    if (value.get(list)) wrong(name, cat("\"", name, "\" must be a list, not ", kind_of(value)));
    if (list.size() == 0) return std::vector<Input>();
    if ((*list.begin()).is_number()) wrong(name, cat(name, "[0] must be a string, not a number"));
    std::vector<Input> inputs = read_inputs(value, name, strings, limits);
    require_inputs(inputs, name);
    return inputs;
  };
  Document(json, limits).for_each([&](std::string_view key, Value value) {
    if (key == "texts") {
      body.texts = take("texts", value, Strings::texts);
    } else if (key == "images") {
      body.images = take("images", value, Strings::images);
    } else {
      take_wish(key, value, body.wishes);
    }
  });
  if (!given) wrong("texts", "give \"texts\", \"images\" or both, each a list");
  return body;
}

const ApiOperation kWeaviateOperation{
    "weaviate", "Texts and pictures to vectors",
    R"({"application/json": {"schema": {"anyOf": [{"type": "object", "properties": {"texts": {"type": "array", "items": {"$ref": "#/components/schemas/Text"}}, "images": {"type": "array", "items": {"$ref": "#/components/schemas/Picture"}}}, "required": ["texts"]}, {"type": "object", "properties": {"texts": {"type": "array", "items": {"$ref": "#/components/schemas/Text"}}, "images": {"type": "array", "items": {"$ref": "#/components/schemas/Picture"}}}, "required": ["images"]}]}}})",
    R"({"application/json": {"schema": {"type": "object", "properties": {"textVectors": {"$ref": "#/components/schemas/Vectors"}, "imageVectors": {"$ref": "#/components/schemas/Vectors"}}, "required": ["textVectors", "imageVectors"]}}})"};

void post_weaviate(Service& service, const CallPtr& call, const Reply& reply) {
  WeaviateBody body =
      take_body(service, *call, [&](const BodyLimits& limits) { return parse_weaviate(call->body, limits); });
  call->wishes.take(body.wishes);
  const std::size_t texts = body.texts.size(), images = body.images.size();
  call->memory.add(json_bytes(texts + images, static_cast<std::size_t>(service.info().embed_dim)), "the answer");
  std::vector<Input> inputs = std::move(body.texts);
  for (Input& image : body.images) inputs.push_back(std::move(image));
  embed(
      service, call, reply, std::move(inputs), {}, names_in({{"texts", texts}, {"images", images}}),
      [reply, texts](const Vectors& vectors) {
        require_all(vectors);
        Answer answer;
        answer.body = "{\"textVectors\":";
        append_vectors(vectors, 0, texts, answer.body);
        answer.body += ",\"imageVectors\":";
        append_vectors(vectors, texts, vectors.items.size(), answer.body);
        answer.body += '}';
        reply(std::move(answer));
      },
      true);
}

const ApiOperation kWeaviateMetaOperation{"weaviate", "The model", nullptr,
                                          R"({"application/json": {"schema": {"type": "object"}}})"};

void get_weaviate_meta(Service& service, const CallPtr&, const Reply& reply) {
  if (!service.loaded()) service.require_ready();
  const EngineInfo& info = service.info();
  Answer answer;
  answer.body =
      cat("{\"model_type\":\"clip\",\"_name_or_path\":", json_string(service.model_name()),
          ",\"projection_dim\":", info.embed_dim, ",\"logit_scale\":", info.logit_scale,
          ",\"text_config\":{\"hidden_size\":", info.text_width, ",\"max_position_embeddings\":", info.context_length,
          ",\"vocab_size\":", info.vocab_size, "},\"vision_config\":{\"hidden_size\":", info.vision_width,
          ",\"image_size\":", info.input_size, "}}");
  reply(std::move(answer));
}

const ApiOperation kWeaviateLiveOperation{"weaviate", "Whether the server lives", nullptr, nullptr, nullptr, 204};

void get_weaviate_live(Service& service, const CallPtr&, const Reply& reply) {
  if (!is_alive(service)) throw Error(Code::unavailable, "the model does not answer: GET /health says why");
  Answer answer;
  answer.status = 204;
  reply(std::move(answer));
}

const ApiOperation kWeaviateReadyOperation{"weaviate", "Whether it answers now", nullptr, nullptr, nullptr, 204};

void get_weaviate_ready(Service& service, const CallPtr&, const Reply& reply) {
  service.require_ready();
  Answer answer;
  answer.status = 204;
  reply(std::move(answer));
}

}  // namespace tandem::server
