// What the server says about itself.
#include <nlohmann/json.hpp>

#include "base/strings.h"
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

/// {"status", "reason"?, "replicas"?}: the reason why it is not well, in one line, and how many replicas of the model
/// there are, work, and are being replaced.
json status_json(const Service& service, bool well, const std::string& otherwise) {
  json status = {{"status", well ? "ok" : otherwise}};
  const std::string reason = service.state() == State::failed ? service.load_error() : service.sickness();
  if (!well && !reason.empty()) status["reason"] = reason;
  if (const EngineHealth health = service.health(); health.replicas > 0) {
    status["replicas"] = {{"total", health.replicas}, {"working", health.working}, {"replacing", health.replacing}};
  }
  return status;
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
  const bool well = service.alive();
  reply(json_answer(status_json(service, well, "failed"), well ? 200 : 503));
}

const ApiOperation kReadyOperation{"about", "Whether it answers now: loaded, not stopping, with a device that works",
                                   nullptr, R"({"application/json": {"schema": {"type": "object"}}})"};

void get_ready(Service& service, const CallPtr&, const Reply& reply) {
  const bool ready = service.ready();
  const State state = service.state();
  const EngineHealth health = service.health();
  // As long as some work, a replacement is not why the service is not ready.
  const char* const otherwise = health.working == 0 && health.replacing > 0 ? "replacing" : "failed";
  reply(json_answer(status_json(service, ready, state == State::ready ? otherwise : to_string(state)),
                    ready ? 200 : 503));
}

const ApiOperation kModelsOperation{"about", "The models (OpenAI)", nullptr,
                                    R"({"application/json": {"schema": {"type": "object"}}})"};

void get_models(Service& service, const CallPtr&, const Reply& reply) {
  reply(json_answer({{"object", "list"},
                     {"data", json::array({{{"id", service.model_name()},
                                            {"object", "model"},
                                            {"created", service.started_at()},
                                            {"owned_by", "tandem"}}})}}));
}

const ApiOperation kInfoOperation{"about", "What is served, and the limits; with the fields of TEI", nullptr,
                                  R"({"application/json": {"schema": {"type": "object"}}})"};

void get_info(Service& service, const CallPtr&, const Reply& reply) {
  const State state = service.state();
  const ServerOptions& options = service.options();
  json info = {{"name", "tandem"},
               {"version", version()},
               {"status", to_string(state)},
               {"model", {{"id", service.model_name()}}},
               {"load_another", "tandem serve --model openai/clip-vit-base-patch32"},
               {"limits",
                {{"max_body_bytes", options.max_body_bytes},
                 {"max_items", options.max_items},
                 {"max_text_bytes", options.max_text_bytes},
                 {"max_pixels", options.engine.max_pixels}}}};
  if (const std::string reason = state == State::failed ? service.load_error() : service.sickness(); !reason.empty()) {
    info["reason"] = reason;
  }
  if (service.loaded()) {
    const EngineInfo& engine = service.info();
    info["model"].update({{"demo", !engine.knows_photographs},
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
