// What the server says about itself.
#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "server/models.h"
#include "server/routes.h"
#include "tandem/version.h"

namespace tandem::server {
namespace {

using nlohmann::json;

Answer json_answer(const json& value, int status = 200) {
  Answer answer;
  answer.status = status;
  answer.body = value.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
  answer.headers.emplace_back("Cache-Control", "no-store");
  if (status == 503) answer.headers.emplace_back("Retry-After", "2");
  return answer;
}

std::string reason_of(const Service& service) {
  return service.state() == State::failed ? service.load_error() : service.sickness();
}

/// {"status", "reason"?, "replicas"?}: the reason why it is not well, in one line, and how many replicas of the model
/// there are, work, and are being replaced.
json status_json(const Service& service, bool well, const std::string& otherwise) {
  json status = {{"status", well ? "ok" : otherwise}};
  const std::string reason = reason_of(service);
  if (!well && !reason.empty()) status["reason"] = reason;
  if (const EngineHealth health = service.health(); health.replicas > 0) {
    status["replicas"] = {{"total", health.replicas}, {"working", health.working}, {"replacing", health.replacing}};
  }
  return status;
}

/// What is not well about one model.
std::string trouble_of(const Service& model) {
  const State state = model.state();
  const EngineHealth health = model.health();
  // As long as some work, a replacement is not why it is not ready.
  return state != State::ready                         ? to_string(state)
         : health.working == 0 && health.replacing > 0 ? "replacing"
                                                       : "failed";
}

/// status_json() of every model with its name; where there is but one, its own alone.
json all_json(const Service& first, bool well, const std::string& otherwise) {
  json status = status_json(first, well, otherwise);
  if (first.models().size() == 1) return status;
  status = {{"status", !well ? otherwise : is_degraded(first) ? "degraded" : "ok"}, {"models", json::array()}};
  for (const Service* model : first.models()) {
    json one = status_json(*model, model->ready(), trouble_of(*model));
    one["id"] = model->model_name();
    if (one.contains("reason") && !status.contains("reason")) {
      status["reason"] = cat(model->model_name(), ": ", one["reason"].get<std::string>());
    }
    status["models"].push_back(std::move(one));
  }
  return status;
}

/// What GET /info says of a model.
json model_json(const Service& service) {
  json model = {{"id", service.model_name()}, {"status", to_string(service.state())}};
  if (!service.aliases().empty()) model["aliases"] = service.aliases();
  if (const std::string reason = reason_of(service); !reason.empty()) model["reason"] = reason;
  if (!service.loaded()) return model;
  const EngineInfo& engine = service.info();
  model.update({{"demo", !engine.knows_photographs},
                {"device", engine.device},
                {"device_name", engine.device_name},
                {"isa", engine.isa},
                {"precision", engine.precision},
                {"reference", engine.reference},
                {"embed_dim", engine.embed_dim},
                {"input_size", engine.input_size},
                {"context_length", engine.context_length},
                {"parameters", engine.parameters},
                {"hash", engine.model_hash},
                {"load_seconds", engine.load_seconds}});
  return model;
}

/// The models as OpenAI lists them; an alias is one of its own, with its model's name in "root".
json model_objects(const Service& service) {
  json data = json::array();
  for (const Service* model : service.models()) {
    json one = {
        {"id", model->model_name()}, {"object", "model"}, {"created", service.started_at()}, {"owned_by", "tandem"}};
    data.push_back(one);
    one["root"] = model->model_name();
    for (const std::string& alias : model->aliases()) {
      one["id"] = alias;
      data.push_back(one);
    }
  }
  return data;
}

std::string tei_dtype(const std::string& precision) {
  return precision == "fp32"   ? "float32"
         : precision == "fp16" ? "float16"
         : precision == "bf16" ? "bfloat16"
                               : precision;
}

}  // namespace

const ApiOperation kHealthOperation{"about", "Whether the server lives", nullptr,
                                    R"({"application/json": {"schema": {"type": "object"}}})"};

void get_health(Service& service, const CallPtr&, const Reply& reply) {
  const bool well = is_alive(service);
  reply(json_answer(all_json(service, well, "failed"), well ? 200 : 503));
}

const ApiOperation kReadyOperation{"about", "Whether it answers now: loaded, not stopping, with a device that works",
                                   nullptr, R"({"application/json": {"schema": {"type": "object"}}})"};

void get_ready(Service& service, const CallPtr&, const Reply& reply) {
  const bool ready = is_ready(service);
  const State state = state_of(service);
  const std::string otherwise = state == State::ready ? trouble_of(service) : to_string(state);
  reply(json_answer(all_json(service, ready, otherwise), ready ? 200 : 503));
}

const ApiOperation kModelsOperation{"about", "The models (OpenAI)", nullptr,
                                    R"({"application/json": {"schema": {"type": "object"}}})"};

void get_models(Service& service, const CallPtr&, const Reply& reply) {
  reply(json_answer({{"object", "list"}, {"data", model_objects(service)}}));
}

const ApiOperation kModelOperation{
    "about", "One model (OpenAI)", nullptr, R"({"application/json": {"schema": {"type": "object"}}})",
    R"([{"name": "id", "in": "path", "required": true, "schema": {"$ref": "#/components/schemas/Model"}}])"};

void get_model(Service& service, const CallPtr& call, const Reply& reply) {
  const std::string name = percent_decoded(std::string_view(call->path).substr(std::string_view("/v1/models/").size()));
  for (const json& one : model_objects(service)) {
    if (one["id"] == name || (name == "default" && !one.contains("root"))) return reply(json_answer(one));
  }
  throw FieldError(Code::not_found, unknown_model(service, name), "model");
}

const ApiOperation kInfoOperation{"about", "What is served, and the limits; with the fields of TEI", nullptr,
                                  R"({"application/json": {"schema": {"type": "object"}}})"};

void get_info(Service& service, const CallPtr&, const Reply& reply) {
  const ServerOptions& options = service.options();
  json info = {{"name", "tandem"},
               {"uuid", service.instance()},  // Roboflow's client asks for it
               {"version", version()},
               {"status", to_string(state_of(service))},
               {"model", model_json(service)},
               {"models", json::array()},
               {"load_another", "tandem serve --model openai/clip-vit-base-patch32"},
               {"limits",
                {{"max_body_bytes", options.max_body_bytes},
                 {"max_items", options.max_items},
                 {"max_text_bytes", options.max_text_bytes},
                 {"max_pixels", options.engine.max_pixels}}}};
  for (const Service* model : service.models()) info["models"].push_back(model_json(*model));
  if (const std::string reason = reason_of(service); !reason.empty()) info["reason"] = reason;
  if (service.loaded()) {
    const EngineInfo& engine = service.info();
    // What a client of text-embeddings-inference reads.
    info.update({{"model_id", service.model_name()},
                 {"model_sha", engine.model_hash},
                 {"model_dtype", tei_dtype(engine.precision)},
                 {"served_model_name", service.model_name()},
                 {"model_type", {{"embedding", {{"pooling", "cls"}}}}},
                 {"max_input_length", engine.context_length},
                 {"max_batch_tokens", engine.max_batch * engine.context_length},
                 {"max_batch_requests", engine.max_batch},
                 {"max_concurrent_requests", options.engine.max_queue},
                 {"max_client_batch_size", options.max_items},
                 {"auto_truncate", true},
                 {"tokenization_workers", options.worker_threads},
                 {"sha", nullptr},
                 {"docker_label", nullptr}});
    info["default_labels"] = service.defaults().labels.size();
    info["default_templates"] = service.defaults().templates;
  }
  const auto gallery = service.gallery();
  info["gallery"] = {{"count", gallery ? gallery->size() : 0}, {"done", gallery ? gallery->done() : 0}};
  reply(json_answer(info));
}

}  // namespace tandem::server
