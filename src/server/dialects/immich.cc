// The dialect of immich's machine learning service: POST /predict for its "clip" task, GET /ping.
#include "base/strings.h"
#include "server/dialects/bodies.h"
#include "server/multipart.h"
#include "server/read_input.h"
#include "server/routes.h"
#include "server/vectors.h"

namespace tandem::server {
namespace {

/// {"clip": {"visual": {"modelName": …}}} or {"clip": {"textual": …}}; whether it is the visual one.
bool is_visual(std::string_view entries, const BodyLimits& limits) {
  // A form's memory is counted as bytes that are copied, not as JSON that is parsed, which takes many times as much.
  constexpr std::size_t kEntriesBytes = 64 << 10;
  if (entries.size() > kEntriesBytes) {
    throw FieldError(Code::too_large, cat("entries has ", entries.size(), " bytes; the limit is ", kEntriesBytes),
                     "entries");
  }
  const Document document(std::string(entries), limits);
  Value clip, part;
  Object tasks;
  for (const auto [key, value] : document.fields()) {
    if (key != "clip") {
      throw FieldError(Code::unsupported,
                       cat("entries: the task \"", key.substr(0, 64), "\" is not done here, only \"clip\" is"),
                       "entries");
    }
  }
  if (!field_of(document.fields(), "clip", clip) || clip.get(tasks)) wrong("entries", "entries has no object \"clip\"");
  const bool visual = field_of(tasks, "visual", part), textual = field_of(tasks, "textual", part);
  if (visual == textual) wrong("entries", "entries.clip must have either \"visual\" or \"textual\"");
  return visual;
}

}  // namespace

ImmichBody parse_immich(std::string_view bytes, std::string_view content_type, const BodyLimits& limits) {
  constexpr std::size_t kParts = 1024;
  if (!content_type.starts_with("multipart/form-data")) {
    throw Error(Code::bad_data,
                "the body must be a form (multipart/form-data) with \"entries\" and \"image\" or \"text\"");
  }
  ImmichBody body;
  std::optional<std::string_view> entries, image, text;
  for (const Part& part : parse_multipart(bytes, content_type, kParts)) {
    if (part.name == "entries") entries = part.data;
    if (part.name == "image") image = part.data;
    if (part.name == "text") text = part.data;
  }
  if (!entries) wrong("entries", "the form has no part \"entries\"");
  body.visual = is_visual(*entries, limits);
  if (body.visual) {
    if (!image || image->empty()) wrong("image", "the form has no part \"image\"");
    body.input = copy_of(*image);
  } else {
    if (!text) wrong("text", "the form has no part \"text\"");
    body.input = checked_text(*text, "text", "text", limits);
  }
  return body;
}

const ApiOperation kImmichOperation{
    "immich", "A picture or a text to a vector",
    R"({"multipart/form-data": {"schema": {"type": "object", "properties": {"entries": {"const": "{\"clip\":{\"textual\":{\"modelName\":\"ViT-B-32__openai\"}}}"}, "text": {"type": "string"}}, "required": ["entries", "text"]}}})",
    R"({"application/json": {"schema": {"type": "object", "properties": {"clip": {"type": "string"}, "imageHeight": {"type": "integer"}, "imageWidth": {"type": "integer"}}, "required": ["clip"]}}})"};

void post_immich(Service& service, const CallPtr& call, const Reply& reply) {
  ImmichBody body = take_bytes(
      service, *call, [&](const BodyLimits& limits) { return parse_immich(call->body, call->content_type, limits); });
  call->memory.add(json_bytes(1, static_cast<std::size_t>(service.info().embed_dim)), "the answer");
  std::vector<Input> inputs;
  inputs.push_back(std::move(body.input));
  embed(
      service, call, reply, std::move(inputs), {}, names_in(body.visual ? "image" : "text", 1),
      [reply, visual = body.visual](const Vectors& vectors) {
        require_all(vectors);
        Answer answer;
        answer.body = "{\"clip\":\"";  // a string that holds the list: what its database takes
        const Embedding& one = vectors.items[0];
        append_vector(one.values, false, answer.body);
        answer.body += '"';
        if (visual) answer.body += cat(",\"imageHeight\":", one.height, ",\"imageWidth\":", one.width);
        answer.body += '}';
        reply(std::move(answer));
      },
      true);
}

const ApiOperation kPingOperation{"about", "Whether the server lives", nullptr,
                                  R"({"text/plain": {"schema": {"type": "string"}}})"};

void get_ping(Service& service, const CallPtr&, const Reply& reply) {
  if (!service.alive()) throw Error(Code::unavailable, "the model does not answer: GET /health says why");
  Answer answer;
  answer.content_type = "text/plain; charset=utf-8";
  answer.body = "pong";
  reply(std::move(answer));
}

}  // namespace tandem::server
