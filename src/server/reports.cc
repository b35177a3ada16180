// GET /metrics and GET /stats: what telemetry counted, with what only the service knows.
#include "server/models.h"
#include "server/routes.h"
#include "tandem/version.h"
#include "telemetry/report.h"

namespace tandem::server {
namespace {

telemetry::ModelFacts facts_of(const Service& service) {
  telemetry::ModelFacts facts;
  facts.name = service.model_name();
  facts.state = to_string(service.state());
  facts.ready = service.ready();
  const EngineHealth health = service.health();
  facts.replicas = health.replicas, facts.working = health.working, facts.replacing = health.replacing;
  facts.queue_items = service.queued();
  facts.in_flight = service.in_flight();
  if (service.loaded()) {
    facts.device = service.info().device, facts.precision = service.info().precision;
    const Rehearsed& done = service.info().rehearsed;
    facts.warm_passes = done.warm_passes, facts.warm_seconds = done.warm_seconds;
    facts.recorded_passes = done.recorded;
    for (const PassSeconds& pass : done.images) facts.image_passes.push_back({pass.items, pass.seconds});
    for (const PassSeconds& pass : done.texts) facts.text_passes.push_back({pass.items, pass.seconds});
    facts.text_tokens = done.text_tokens;
  }
  const ModelCounts& counts = service.counts();
  facts.images = counts.images, facts.texts = counts.texts, facts.batches = counts.batches;
  facts.compute_seconds = 1e-9 * static_cast<double>(counts.nanoseconds);
  return facts;
}

/// What only the service knows; brings the counts of caches up to date.
telemetry::Live live_of(Service& service) {
  count_caches(service);
  telemetry::Live live;
  live.version = version();
  live.model = service.model_name();
  live.state = to_string(state_of(service));
  live.alive = is_alive(service), live.ready = is_ready(service), live.degraded = is_degraded(service);
  for (const Service* model : service.models()) {
    const telemetry::ModelFacts& facts = live.models.emplace_back(facts_of(*model));
    live.replicas += facts.replicas, live.working += facts.working, live.replacing += facts.replacing;
    live.queue_items += facts.queue_items, live.queue_limit += model->options().engine.max_queue;
  }
  live.request_bytes = service.memory().used(), live.request_bytes_limit = service.memory().limit();
  if (service.loaded()) {
    live.device = service.info().device, live.precision = service.info().precision;
    live.max_batch = static_cast<std::size_t>(service.info().max_batch);
  }
  live.gpus = service.operation().gpus().facts();
  live.process = telemetry::process_facts();
  return live;
}

}  // namespace

const ApiOperation kMetricsOperation{"about", "What was counted and measured, for Prometheus", nullptr,
                                     R"({"text/plain": {"schema": {"type": "string"}}})"};

void get_metrics(Service& service, const CallPtr&, const Reply& reply) {
  Answer answer;
  answer.content_type = telemetry::kMetricsType;
  const telemetry::Live live = live_of(service);
  answer.body = telemetry::metrics_text(service.operation().telemetry(), live);
  answer.headers.emplace_back("Cache-Control", "no-store");
  reply(std::move(answer));
}

const ApiOperation kStatsOperation{
    "about", "The same as JSON: requests, latency, batches, stages, queue, caches, memory", nullptr,
    R"({"application/json": {"schema": {"type": "object", "required": ["status", "ready", "requests", "latency", "batches", "stages", "queue", "caches", "memory"]}}})"};

void get_stats(Service& service, const CallPtr&, const Reply& reply) {
  Answer answer;
  const telemetry::Live live = live_of(service);
  answer.body = telemetry::stats_json(service.operation().telemetry(), live);
  answer.headers.emplace_back("Cache-Control", "no-store");
  reply(std::move(answer));
}

}  // namespace tandem::server
