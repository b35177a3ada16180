// GET /models as infinity answers it. Its other routes are those of embeddings.cc, rerank.cc and classify.cc.
#include "base/strings.h"
#include "server/routes.h"

namespace tandem::server {

namespace {

/// Infinity's own client takes no other word for the owner than "infinity".
void append_model(const Service& model, std::string& out) {
  const std::size_t queued = model.queued(), most = model.options().engine.max_queue;
  const int batch = model.loaded() ? model.info().max_batch : 0;
  out += cat("{\"id\":", json_string(model.model_name()),
             ",\"object\":\"model\",\"owned_by\":\"infinity\",\"created\":", model.started_at(),
             ",\"backend\":\"tandem\",\"capabilities\":[\"embed\",\"image_embed\",\"rerank\",\"classify\"],"
             "\"stats\":{\"queue_fraction\":");
  append_number(static_cast<float>(queued) / static_cast<float>(most), out);
  out +=
      cat(",\"queue_absolute\":", queued, ",\"results_pending\":", model.in_flight(), ",\"batch_size\":", batch, "}}");
}

}  // namespace

const ApiOperation kInfinityModelsOperation{"about", "The models and what waits (infinity)", nullptr,
                                            R"({"application/json": {"schema": {"type": "object"}}})"};

void get_infinity_models(Service& service, const CallPtr&, const Reply& reply) {
  Answer answer;
  answer.body = "{\"object\":\"list\",\"data\":[";
  for (const Service* model : service.models()) {
    if (model != &service) answer.body += ',';
    append_model(*model, answer.body);
  }
  answer.body += "]}";
  answer.headers.emplace_back("Cache-Control", "no-store");
  reply(std::move(answer));
}

}  // namespace tandem::server
