#include "server/models.h"

#include <algorithm>

#include "base/strings.h"

namespace tandem::server {
namespace {

/// What infinity's own client says where its user named no model.
constexpr std::string_view kUnspecified = "default/not-specified";

bool any_is(const Service& first, State state) {
  const auto& all = first.models();
  return std::any_of(all.begin(), all.end(), [&](const Service* model) { return model->state() == state; });
}

bool any_ready(const Service& first) {
  const auto& all = first.models();
  return std::any_of(all.begin(), all.end(), [](const Service* model) { return model->ready(); });
}

void add(const CacheCounts& from, CacheCounts& to) {
  to.hits += from.hits, to.misses += from.misses, to.evicted += from.evicted, to.coalesced += from.coalesced;
  to.entries += from.entries, to.bytes += from.bytes;
}

}  // namespace

Service& model_of(Service& first, const std::string& name) {
  const auto& all = first.models();
  auto at = std::find_if(all.begin(), all.end(), [&](const Service* model) { return model->is_called(name); });
  if (at == all.end() && (name.empty() || name == "default" || name == kUnspecified)) at = all.begin();
  if (at == all.end()) {
    throw FieldError(Code::not_found, unknown_model(first, name), "model");
  }
  (*at)->require_ready();
  return **at;
}

std::string unknown_model(const Service& first, std::string_view name) {
  std::string served;
  for (const std::string& one : names_of(first)) served += cat(served.empty() ? "\"" : ", \"", one, "\"");
  return cat("model \"", printable(name.substr(0, 200)), "\" is not served here; served: ", served);
}

std::vector<std::string> names_of(const Service& first) {
  std::vector<std::string> names;
  for (const Service* model : first.models()) {
    names.push_back(model->model_name());
    names.insert(names.end(), model->aliases().begin(), model->aliases().end());
  }
  return names;
}

State state_of(const Service& first) {
  for (const State state : {State::draining, State::loading, State::ready}) {
    if (any_is(first, state)) return state;
  }
  return State::failed;
}

bool is_ready(const Service& first) {
  return state_of(first) == State::ready && any_ready(first);
}

bool is_alive(const Service& first) {
  const auto& all = first.models();
  return std::any_of(all.begin(), all.end(), [](const Service* model) { return model->alive(); });
}

bool is_degraded(const Service& first) {
  if (!is_ready(first)) return false;
  const auto& all = first.models();
  return std::any_of(all.begin(), all.end(), [](const Service* model) {
    const EngineHealth health = model->health();
    return !model->ready() || health.working < health.replicas;
  });
}

void require_any(const Service& first) {
  if (any_is(first, State::draining)) throw Error(Code::unavailable, "the server is stopping");
  if (any_ready(first)) return;
  for (const Service* model : first.models()) {
    if (model->state() == State::loading) model->require_ready();
  }
  first.require_ready();
}

CacheStats caches_of(const Service& first) {
  CacheStats sum;
  for (const Service* model : first.models()) {
    const CacheStats stats = model->cache_stats();
    add(stats.texts, sum.texts);
    add(stats.pictures, sum.pictures);
    add(stats.image_vectors, sum.image_vectors);
    sum.coalesced += stats.coalesced;
  }
  return sum;
}

void count_caches(Service& first) {
  // Under the lock, so that two reports at once cannot let a count go back.
  const std::lock_guard lock(first.counting());
  const CacheStats stats = caches_of(first);
  const auto take = [&first](telemetry::Cache which, const CacheCounts& counts) {
    telemetry::CacheCounters& to = first.operation().telemetry().cache(which);
    to.hits = counts.hits, to.misses = counts.misses, to.evictions = counts.evicted, to.coalesced = counts.coalesced;
    to.entries = counts.entries, to.bytes = counts.bytes;
  };
  take(telemetry::Cache::texts, stats.texts);
  take(telemetry::Cache::images, stats.pictures);
  take(telemetry::Cache::embeddings, stats.image_vectors);
}

}  // namespace tandem::server
