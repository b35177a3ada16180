// GET /metrics and GET /stats: what telemetry counted, with what only the service knows.
#include "server/routes.h"
#include "tandem/version.h"
#include "telemetry/report.h"

namespace tandem::server {
namespace {

/// What only the service knows; brings the counts of caches up to date.
telemetry::Live live_of(Service& service) {
  service.count_caches();
  telemetry::Live live;
  live.version = version();
  live.model = service.model_name();
  live.state = to_string(service.state());
  live.alive = service.alive(), live.ready = service.ready();
  const EngineHealth health = service.health();
  live.replicas = health.replicas, live.working = health.working, live.replacing = health.replacing;
  live.queue_items = service.queued(), live.queue_limit = service.options().engine.max_queue;
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
