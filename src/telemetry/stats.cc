// The statistics as JSON.
#include <nlohmann/json.hpp>

#include "telemetry/report.h"

namespace tandem::telemetry {
namespace {

using nlohmann::json;

json times_json(const TimeCounts& times) {
  return {{"count", times.count},
          {"mean_ms", 1000 * times.mean()},
          {"p50_ms", 1000 * times.quantile(0.5)},
          {"p95_ms", 1000 * times.quantile(0.95)},
          {"p99_ms", 1000 * times.quantile(0.99)}};
}

double share(double part, double whole) {
  return whole > 0 ? part / whole : 0;
}

json requests_json(const Telemetry& telemetry) {
  json statuses = json::object(), routes = json::array();
  std::map<int, std::uint64_t> sums;
  for (const auto& route : telemetry.routes()) {
    std::uint64_t failed = 0;
    for (const auto& [status, count] : route.statuses) {
      sums[status] += count;
      if (status >= 400 || status == 0) failed += count;
    }
    json one = times_json(route.times);
    one.update({{"method", route.name->method}, {"path", route.name->path}, {"failed", failed}});
    routes.push_back(std::move(one));
  }
  for (const auto& [status, count] : sums) statuses[status == 0 ? "other" : std::to_string(status)] = count;
  const TimeCounts recent = telemetry.recent_total();
  const double window = telemetry.recent_seconds();
  return {{"total", telemetry.requests()},
          {"in_flight", telemetry.in_flight()},
          {"connections", telemetry.connections()},
          {"bytes_in", telemetry.bytes_in()},
          {"bytes_out", telemetry.bytes_out()},
          {"per_second", share(static_cast<double>(recent.count), window)},
          {"statuses", statuses},
          {"routes", routes}};
}

json batches_json(const Telemetry& telemetry, bool image) {
  const SizeCounts sizes = telemetry.batches(image);
  json histogram = json::array();
  for (std::size_t i = 0; i < sizes.buckets.size(); ++i) {
    const bool last = i == SizeCounts::kBounds;
    histogram.push_back({{"most", last ? json(nullptr) : json(std::size_t{1} << i)}, {"batches", sizes.buckets[i]}});
  }
  return {{"batches", sizes.batches},
          {"items", sizes.items},
          {"mean_size", share(static_cast<double>(sizes.items), static_cast<double>(sizes.batches))},
          {"histogram", histogram}};
}

/// Every stage's times, and two shares of it: of an item's way through the server (waiting included, a batch's time
/// counted for each of its items), and of the work that threads and the device did (a batch counted once).
json stages_json(const Telemetry& telemetry) {
  json out = json::object();
  std::array<TimeCounts, kStages.size()> times;
  double work = 0, way = 0;
  double batch_seconds = 0;
  for (std::size_t i = 0; i < kStages.size(); ++i) {
    times.at(i) = telemetry.stage(kStages.at(i), true);
    times.at(i).add(telemetry.stage(kStages.at(i), false));
    const double seconds = times.at(i).seconds;
    if (kStages.at(i) != Stage::queue) work += seconds;
    if (kStages.at(i) == Stage::copy || kStages.at(i) == Stage::compute) {
      batch_seconds += seconds;
    } else {
      way += seconds;
    }
  }
  way += telemetry.item_seconds();
  for (std::size_t i = 0; i < kStages.size(); ++i) {
    const Stage stage = kStages.at(i);
    const bool of_batch = stage == Stage::copy || stage == Stage::compute;
    const double seconds = times.at(i).seconds;
    json one = times_json(times.at(i));
    one["of"] = of_batch ? "batch" : "item";
    one["seconds"] = seconds;
    one["share"] = share(of_batch ? share(seconds, batch_seconds) * telemetry.item_seconds() : seconds, way);
    one["busy_share"] = stage == Stage::queue ? json(nullptr) : json(share(seconds, work));
    one["recent"] = times_json(telemetry.recent(stage));
    out[to_string(stage)] = std::move(one);
  }
  return out;
}

json caches_json(const Telemetry& telemetry) {
  json out = json::object();
  for (const Cache which : kCaches) {
    const CacheCounters& cache = telemetry.cache(which);
    const auto hits = static_cast<double>(cache.hits.load()), misses = static_cast<double>(cache.misses.load());
    out[to_string(which)] = {{"hits", cache.hits.load()},
                             {"misses", cache.misses.load()},
                             {"hit_rate", share(hits, hits + misses)},
                             {"coalesced", cache.coalesced.load()},
                             {"evictions", cache.evictions.load()},
                             {"entries", cache.entries.load()},
                             {"bytes", cache.bytes.load()}};
  }
  return out;
}

json memory_json(const Telemetry& telemetry, const Live& live) {
  json gpus = json::array();
  for (const GpuFacts& gpu : live.gpus) {
    gpus.push_back({{"gpu", gpu.index},
                    {"name", gpu.name},
                    {"uuid", gpu.uuid},
                    {"used_bytes", gpu.used_bytes},
                    {"total_bytes", gpu.total_bytes},
                    {"peak_bytes", gpu.peak_bytes},
                    {"utilization", gpu.utilization},
                    {"power_watts", gpu.power_watts}});
  }
  return {{"resident_bytes", live.process.resident_bytes},
          {"peak_resident_bytes", live.process.peak_resident_bytes},
          {"growth_bytes_per_1000_requests", telemetry.memory().growth_per_1000()},
          {"growth_samples", telemetry.memory().samples()},
          {"requests_bytes", live.request_bytes},
          {"requests_limit_bytes", live.request_bytes_limit},
          {"gpus", gpus}};
}

json passes_json(const std::vector<ModelFacts::Pass>& passes) {
  json out = json::array();
  for (const auto& pass : passes) out.push_back({{"items", pass.items}, {"ms", 1000 * pass.seconds}});
  return out;
}

json models_json(const std::vector<ModelFacts>& models) {
  json out = json::array();
  for (const ModelFacts& model : models) {
    out.push_back(
        {{"model", model.name},
         {"status", model.state},
         {"ready", model.ready},
         {"device", model.device},
         {"precision", model.precision},
         {"replicas", {{"total", model.replicas}, {"working", model.working}, {"replacing", model.replacing}}},
         {"queue", {{"items", model.queue_items}}},
         {"in_flight", model.in_flight},
         {"items", {{"images", model.images}, {"texts", model.texts}}},
         {"batches", model.batches},
         {"compute_seconds", model.compute_seconds},
         {"warm_up",
          {{"passes", model.warm_passes},
           {"seconds", model.warm_seconds},
           {"recorded_passes", model.recorded_passes},
           {"image_passes", passes_json(model.image_passes)},
           {"text_passes", passes_json(model.text_passes)},
           {"text_tokens", model.text_tokens}}}});
  }
  return out;
}

}  // namespace

std::string stats_json(const Telemetry& telemetry, const Live& live) {
  json keys = json::object();
  for (const auto& [name, counters] : telemetry.keys()) {
    keys[name] = {{"requests", counters->requests.load()},
                  {"refused", counters->refused.load()},
                  {"items", counters->items.load()}};
  }
  json latency = times_json(telemetry.total());
  latency["recent"] = times_json(telemetry.recent_total());
  const json stats = {
      {"status", live.state},
      {"ready", live.ready},
      {"degraded", live.degraded},
      {"model", live.model},
      {"device", live.device},
      {"precision", live.precision},
      {"uptime_seconds", telemetry.uptime()},
      {"requests", requests_json(telemetry)},
      {"latency", latency},
      {"items", {{"images", telemetry.items(true)}, {"texts", telemetry.items(false)}}},
      {"batches",
       {{"max", live.max_batch}, {"images", batches_json(telemetry, true)}, {"texts", batches_json(telemetry, false)}}},
      {"stages", stages_json(telemetry)},
      {"queue", {{"items", live.queue_items}, {"limit", live.queue_limit}}},
      {"replicas", {{"total", live.replicas}, {"working", live.working}, {"replacing", live.replacing}}},
      {"caches", caches_json(telemetry)},
      {"models", models_json(live.models)},
      {"keys", keys},
      {"memory", memory_json(telemetry, live)},
      {"log_dropped", telemetry.log_dropped.load()},
      {"spans", {{"sent", telemetry.spans_sent.load()}, {"dropped", telemetry.spans_dropped.load()}}}};
  return stats.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace tandem::telemetry
