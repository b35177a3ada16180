// GET /models as infinity answers it. Its other routes are those of embeddings.cc, rerank.cc and classify.cc.
#include "base/strings.h"
#include "server/routes.h"

namespace tandem::server {

const ApiOperation kInfinityModelsOperation{"about", "The models and what waits (infinity)", nullptr,
                                            R"({"application/json": {"schema": {"type": "object"}}})"};

void get_infinity_models(Service& service, const CallPtr&, const Reply& reply) {
  const std::size_t queued = service.queued(), most = service.options().engine.max_queue;
  const int batch = service.loaded() ? service.info().max_batch : 0;
  Answer answer;
  answer.body = cat("{\"object\":\"list\",\"data\":[{\"id\":", json_string(service.model_name()),
                    ",\"object\":\"model\",\"owned_by\":\"tandem\",\"created\":", service.started_at(),
                    ",\"backend\":\"tandem\",\"capabilities\":[\"embed\",\"image_embed\",\"rerank\",\"classify\"],"
                    "\"stats\":{\"queue_fraction\":");
  append_number(static_cast<float>(queued) / static_cast<float>(most), answer.body);
  answer.body += cat(",\"queue_absolute\":", queued, ",\"results_pending\":", service.in_flight(),
                     ",\"batch_size\":", batch, "}}]}");
  answer.headers.emplace_back("Cache-Control", "no-store");
  reply(std::move(answer));
}

}  // namespace tandem::server
