// Prometheus' text format.
#include <prometheus/text_serializer.h>

#include <sstream>

#include "telemetry/families.h"
#include "telemetry/report.h"

namespace tandem::telemetry {
namespace {

using prometheus::MetricType;

double value_of(const std::atomic<std::uint64_t>& counter) {
  return static_cast<double>(counter.load(std::memory_order_relaxed));
}

Labels kind(bool image) {
  return {{"kind", image ? "image" : "text"}};
}

void add_state(Families& families, const Telemetry& telemetry, const Live& live) {
  families.begin("tandem_info", MetricType::Gauge, "Always 1; what is served, and by what");
  families.gauge(
      1, {{"version", live.version}, {"model", live.model}, {"device", live.device}, {"precision", live.precision}});
  families.gauge("tandem_alive", "1 while /health is 200", live.alive ? 1 : 0);
  families.gauge("tandem_ready", "1 while /ready is 200", live.ready ? 1 : 0);
  families.begin("tandem_state", MetricType::Gauge, "1 for the state that the server is in");
  for (const char* state : {"loading", "ready", "draining", "failed"}) {
    families.gauge(live.state == state ? 1 : 0, {{"state", state}});
  }
  families.gauge("tandem_degraded", "1 while some, but not all, models or replicas of models work",
                 live.degraded || (live.working > 0 && live.working < live.replicas) ? 1 : 0);
  families.begin("tandem_replicas", MetricType::Gauge, "Replicas of the models: there are, work, are being replaced");
  families.gauge(live.replicas, {{"state", "total"}});
  families.gauge(live.working, {{"state", "working"}});
  families.gauge(live.replacing, {{"state", "replacing"}});
  families.gauge("tandem_uptime_seconds", "Since the server began", telemetry.uptime());
}

void add_models(Families& families, const std::vector<ModelFacts>& models) {
  const auto add = [&](const char* name, MetricType type, const char* help, auto value) {
    families.begin(name, type, help);
    for (const ModelFacts& model : models) {
      const auto number = static_cast<double>(value(model));
      if (type == MetricType::Counter) {
        families.counter(number, {{"model", model.name}});
      } else {
        families.gauge(number, {{"model", model.name}});
      }
    }
  };
  if (models.empty()) return;
  families.begin("tandem_model_info", MetricType::Gauge, "Always 1; what a model is computed by");
  for (const ModelFacts& model : models) {
    families.gauge(1, {{"model", model.name}, {"device", model.device}, {"precision", model.precision}});
  }
  add("tandem_model_ready", MetricType::Gauge, "1 while requests for the model are answered",
      [](const ModelFacts& model) { return model.ready ? 1 : 0; });
  families.begin("tandem_model_state", MetricType::Gauge, "1 for the state that the model is in");
  for (const ModelFacts& model : models) {
    for (const char* state : {"loading", "ready", "draining", "failed"}) {
      families.gauge(model.state == state ? 1 : 0, {{"model", model.name}, {"state", state}});
    }
  }
  add("tandem_model_replicas_working", MetricType::Gauge, "Replicas of the model that work",
      [](const ModelFacts& model) { return model.working; });
  add("tandem_model_queue_items", MetricType::Gauge, "Inputs accepted for the model and not yet answered",
      [](const ModelFacts& model) { return model.queue_items; });
  families.begin("tandem_model_items_total", MetricType::Counter, "Inputs that the model computed");
  for (const ModelFacts& model : models) {
    families.counter(static_cast<double>(model.images), {{"model", model.name}, {"kind", "image"}});
    families.counter(static_cast<double>(model.texts), {{"model", model.name}, {"kind", "text"}});
  }
  add("tandem_model_batches_total", MetricType::Counter, "Batches that the model computed",
      [](const ModelFacts& model) { return model.batches; });
  add("tandem_model_compute_seconds_total", MetricType::Counter, "That the model's batches took to compute",
      [](const ModelFacts& model) { return model.compute_seconds; });
}

void add_traffic(Families& families, const Telemetry& telemetry, const Live& live) {
  families.counter("tandem_requests_total", "Requests answered, all routes", static_cast<double>(telemetry.requests()));
  families.gauge("tandem_requests_in_flight", "Requests being read or answered",
                 static_cast<double>(telemetry.in_flight()));
  families.gauge("tandem_connections", "Open connections", static_cast<double>(telemetry.connections()));
  families.begin("tandem_body_bytes_total", MetricType::Counter, "Bytes of bodies received and sent");
  families.counter(static_cast<double>(telemetry.bytes_in()), {{"direction", "in"}});
  families.counter(static_cast<double>(telemetry.bytes_out()), {{"direction", "out"}});
  families.gauge("tandem_request_memory_bytes", "Held for requests being read and answered",
                 static_cast<double>(live.request_bytes));
  families.gauge("tandem_request_memory_limit_bytes", "Beyond it requests are refused with 429",
                 static_cast<double>(live.request_bytes_limit));
  families.gauge("tandem_queue_items", "Inputs accepted and not yet answered", static_cast<double>(live.queue_items));
  families.gauge("tandem_queue_limit_items", "Beyond it requests are refused with 429",
                 static_cast<double>(live.queue_limit));
  families.begin("tandem_items_total", MetricType::Counter, "Inputs computed");
  for (const bool image : {true, false}) families.counter(static_cast<double>(telemetry.items(image)), kind(image));
}

void add_times(Families& families, const Telemetry& telemetry) {
  const auto stage = [&](const char* name, const char* help, Stage which, bool texts) {
    families.begin(name, MetricType::Histogram, help);
    families.times(telemetry.stage(which, true), kind(true));
    if (texts) families.times(telemetry.stage(which, false), kind(false));
  };
  stage("tandem_queue_seconds", "How long an input waited, its preparation not counted", Stage::queue, true);
  stage("tandem_decode_seconds", "Decoding a picture; cleaning and tokenising a text", Stage::decode, true);
  stage("tandem_resize_seconds", "Resizing and cropping a picture", Stage::resize, false);
  stage("tandem_copy_seconds", "Handing a batch's pixels to the device", Stage::copy, false);
  stage("tandem_compute_seconds", "Computing a batch", Stage::compute, true);
  families.begin("tandem_request_seconds", MetricType::Histogram,
                 "Requests with inputs, from the end of the head to the end of the answer");
  families.times(telemetry.total());
  families.begin("tandem_batch_size", MetricType::Histogram, "Inputs of a batch");
  for (const bool image : {true, false}) families.sizes(telemetry.batches(image), kind(image));
}

void add_caches(Families& families, const Telemetry& telemetry) {
  const auto add = [&](const char* name, MetricType type, const char* help, auto member) {
    families.begin(name, type, help);
    for (const Cache cache : kCaches) {
      const double value = value_of(telemetry.cache(cache).*member);
      Labels labels{{"cache", to_string(cache)}};
      if (type == MetricType::Counter) {
        families.counter(value, std::move(labels));
      } else {
        families.gauge(value, std::move(labels));
      }
    }
  };
  add("tandem_cache_hits_total", MetricType::Counter, "Inputs found in a cache", &CacheCounters::hits);
  add("tandem_cache_misses_total", MetricType::Counter, "Inputs not found in a cache", &CacheCounters::misses);
  add("tandem_cache_coalesced_total", MetricType::Counter, "Inputs that joined the same work under way",
      &CacheCounters::coalesced);
  add("tandem_cache_evictions_total", MetricType::Counter, "Entries that made room for others",
      &CacheCounters::evictions);
  add("tandem_cache_entries", MetricType::Gauge, "Entries of a cache", &CacheCounters::entries);
  add("tandem_cache_bytes", MetricType::Gauge, "Bytes of a cache", &CacheCounters::bytes);
}

void add_keys(Families& families, const Telemetry& telemetry) {
  const auto keys = telemetry.keys();
  if (keys.empty()) return;
  const auto add = [&](const char* name, const char* help, auto member) {
    families.begin(name, MetricType::Counter, help);
    for (const auto& [key, counters] : keys) families.counter(value_of((*counters).*member), {{"key", key}});
  };
  add("tandem_key_requests_total", "Requests made with an API key", &KeyCounters::requests);
  add("tandem_key_refused_total", "Requests of a key beyond its quota", &KeyCounters::refused);
  add("tandem_key_items_total", "Inputs in the requests of a key", &KeyCounters::items);
}

void add_gpus(Families& families, const std::vector<GpuFacts>& gpus) {
  if (gpus.empty()) return;
  const auto add = [&](const char* name, MetricType type, const char* help, auto value, bool known = false) {
    families.begin(name, type, help);
    for (const GpuFacts& gpu : gpus) {
      Labels labels{{"gpu", gpu.index}};
      if (known) {
        labels = {{"gpu_uuid", gpu.uuid}};
      } else if (!gpu.uuid.empty()) {
        labels.push_back({"uuid", gpu.uuid});
      }
      if (type == MetricType::Counter) {
        families.counter(value(gpu), std::move(labels));
      } else {
        families.gauge(value(gpu), std::move(labels));
      }
    }
  };
  const auto used = [](const GpuFacts& gpu) { return static_cast<double>(gpu.used_bytes); };
  const auto total = [](const GpuFacts& gpu) { return static_cast<double>(gpu.total_bytes); };
  const auto busy = [](const GpuFacts& gpu) { return gpu.utilization; };
  const auto power = [](const GpuFacts& gpu) { return gpu.power_watts; };
  const auto energy = [](const GpuFacts& gpu) { return gpu.energy_joules; };
  add("tandem_gpu_memory_used_bytes", MetricType::Gauge, "Of the whole GPU, by whomever", used);
  add("tandem_gpu_memory_total_bytes", MetricType::Gauge, "Of the GPU", total);
  add("tandem_gpu_memory_peak_bytes", MetricType::Gauge, "The most that was seen used",
      [](const GpuFacts& gpu) { return static_cast<double>(gpu.peak_bytes); });
  add("tandem_gpu_utilization_ratio", MetricType::Gauge, "Share of the time in which something was computed", busy);
  add("tandem_gpu_power_watts", MetricType::Gauge, "Of the GPU", power);
  add("nv_gpu_memory_used_bytes", MetricType::Gauge, "Of the GPU (Triton's name)", used, true);
  add("nv_gpu_memory_total_bytes", MetricType::Gauge, "Of the GPU (Triton's name)", total, true);
  add("nv_gpu_utilization", MetricType::Gauge, "0 to 1 (Triton's name)", busy, true);
  add("nv_gpu_power_usage", MetricType::Gauge, "Watts (Triton's name)", power, true);
  add("nv_energy_consumption", MetricType::Counter, "Joules (Triton's name)", energy, true);
}

void add_process(Families& families, const Telemetry& telemetry, const ProcessFacts& process) {
  families.gauge("process_resident_memory_bytes", "Resident memory", static_cast<double>(process.resident_bytes));
  families.gauge("process_virtual_memory_bytes", "Address space", static_cast<double>(process.virtual_bytes));
  families.counter("process_cpu_seconds_total", "Of all threads", process.cpu_seconds);
  families.gauge("process_start_time_seconds", "Since 1970", process.start_seconds);
  families.gauge("process_open_fds", "Open files and connections", static_cast<double>(process.open_files));
  families.gauge("process_max_fds", "The most that the system allows", static_cast<double>(process.max_files));
  families.gauge("tandem_memory_peak_bytes", "The most resident memory so far",
                 static_cast<double>(process.peak_resident_bytes));
  families.gauge(
      "tandem_memory_growth_bytes_per_1000_requests",
      "Slope of resident memory over the latest samples, which are 1,000 requests apart; 0 until there are 3",
      telemetry.memory().growth_per_1000());
  families.gauge("tandem_memory_growth_samples", "Samples that the growth was taken from",
                 static_cast<double>(telemetry.memory().samples()));
}

}  // namespace

std::string metrics_text(const Telemetry& telemetry, const Live& live) {
  Families families;
  add_state(families, telemetry, live);
  add_models(families, live.models);
  add_traffic(families, telemetry, live);
  add_times(families, telemetry);
  add_caches(families, telemetry);
  add_keys(families, telemetry);
  add_gpus(families, live.gpus);
  add_process(families, telemetry, live.process);
  families.counter("tandem_log_dropped_total", "Lines of the log that could not be written",
                   value_of(telemetry.log_dropped));
  families.counter("tandem_spans_sent_total", "Spans that the collector took", value_of(telemetry.spans_sent));
  families.counter("tandem_spans_dropped_total", "Spans that the collector did not take",
                   value_of(telemetry.spans_dropped));
  add_known_names(families, telemetry, live.queue_items, live.model);
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, families.all());
  return out.str();
}

}  // namespace tandem::telemetry
