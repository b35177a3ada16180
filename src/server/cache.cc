// POST /cache/clear: what is remembered of earlier requests is forgotten.
#include "base/strings.h"
#include "server/routes.h"

namespace tandem::server {
namespace {

std::string counts_json(const CacheCounts& counts) {
  return cat("{\"entries\":", counts.entries, ",\"hits\":", counts.hits, ",\"misses\":", counts.misses, "}");
}

}  // namespace

void post_cache_clear(Service& service, const CallPtr&, const Reply& reply) {
  const CacheStats before = service.cache_stats();
  service.clear_caches();
  Answer answer;
  answer.body =
      cat("{\"status\":\"ok\",\"cleared\":{\"texts\":", counts_json(before.texts),
          ",\"images\":", counts_json(before.image_vectors), ",\"pictures\":", counts_json(before.pictures), "}}\n");
  answer.headers.emplace_back("Cache-Control", "no-store");
  reply(std::move(answer));
}

}  // namespace tandem::server
