// POST /cache/clear: what is remembered of earlier requests is forgotten. Caches have the names that they have in
// /stats: vectors of texts, fitted pictures ("images"), vectors of pictures ("embeddings").
#include "base/strings.h"
#include "server/models.h"
#include "server/routes.h"

namespace tandem::server {
namespace {

std::string counts_json(const CacheCounts& counts) {
  return cat("{\"entries\":", counts.entries, ",\"hits\":", counts.hits, ",\"misses\":", counts.misses, "}");
}

}  // namespace

const ApiOperation kCacheClearOperation{
    "about", "Forgets what was computed for earlier requests; answers what was there", nullptr,
    R"({"application/json": {"schema": {"type": "object", "properties": {"status": {"const": "ok"}, "cleared": {"type": "object", "properties": {"texts": {"$ref": "#/components/schemas/CacheCounts"}, "images": {"$ref": "#/components/schemas/CacheCounts"}, "embeddings": {"$ref": "#/components/schemas/CacheCounts"}}, "required": ["texts", "images", "embeddings"]}}, "required": ["status", "cleared"]}}})"};

void post_cache_clear(Service& service, const CallPtr&, const Reply& reply) {
  const CacheStats before = caches_of(service);
  for (Service* model : service.models()) model->clear_caches();
  Answer answer;
  answer.body =
      cat("{\"status\":\"ok\",\"cleared\":{\"texts\":", counts_json(before.texts),
          ",\"images\":", counts_json(before.pictures), ",\"embeddings\":", counts_json(before.image_vectors), "}}\n");
  answer.headers.emplace_back("Cache-Control", "no-store");
  reply(std::move(answer));
}

}  // namespace tandem::server
