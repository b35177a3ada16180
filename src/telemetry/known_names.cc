// The same numbers under the names of other servers, so that dashboards made for those go on working. Where a name of
// theirs means something that is not counted here, it is left out rather than filled with something else.
#include <cmath>
#include <map>

#include "telemetry/families.h"

namespace tandem::telemetry {
namespace {

using prometheus::MetricType;

struct Outcomes {
  std::uint64_t all = 0, good = 0;
  std::map<int, std::uint64_t> failed;  ///< by status
};

/// Of the routes that give the model work; they are the ones that are posted to.
Outcomes outcomes_of(const std::vector<Telemetry::OfRoute>& routes) {
  Outcomes out;
  for (const Telemetry::OfRoute& route : routes) {
    if (route.name->method != "POST") continue;
    for (const auto& [status, count] : route.statuses) {
      out.all += count;
      if (status >= 200 && status < 300) {
        out.good += count;
      } else {
        out.failed[status] += count;
      }
    }
  }
  return out;
}

TimeCounts both(const Telemetry& telemetry, Stage stage) {
  TimeCounts sum = telemetry.stage(stage, false);
  sum.add(telemetry.stage(stage, true));
  return sum;
}

void add_http(Families& families, const std::vector<Telemetry::OfRoute>& routes) {
  families.begin("http_requests_total", MetricType::Counter, "Requests by handler, method and status");
  for (const auto& route : routes) {
    for (const auto& [status, count] : route.statuses) {
      families.counter(static_cast<double>(count), {{"handler", route.name->path},
                                                    {"method", route.name->method},
                                                    {"status", status == 0 ? "other" : std::to_string(status)}});
    }
  }
  families.begin("http_request_duration_seconds", MetricType::Histogram,
                 "From the end of a request's head to the end of its answer");
  for (const auto& route : routes) {
    families.times(route.times, {{"handler", route.name->path}, {"method", route.name->method}});
  }
}

void add_tei(Families& families, const Telemetry& telemetry, std::size_t queue_items, const Outcomes& outcomes) {
  families.counter("te_request_count", "Requests to the model (TEI's name)", static_cast<double>(outcomes.all));
  families.counter("te_request_success", "Requests answered well (TEI's name)", static_cast<double>(outcomes.good));
  families.begin("te_request_failure", MetricType::Counter, "Requests that failed, by status (TEI's name)");
  for (const auto& [status, count] : outcomes.failed) {
    families.counter(static_cast<double>(count), {{"err", std::to_string(status)}});
  }
  families.begin("te_request_duration", MetricType::Histogram, "Seconds of requests with inputs (TEI's name)");
  families.times(telemetry.total());
  families.begin("te_request_queue_duration", MetricType::Histogram, "Seconds that inputs waited (TEI's name)");
  families.times(both(telemetry, Stage::queue));
  families.begin("te_request_inference_duration", MetricType::Histogram, "Seconds of batches (TEI's name)");
  families.times(both(telemetry, Stage::compute));
  families.begin("te_request_tokenization_duration", MetricType::Histogram, "Seconds of tokenising (TEI's name)");
  families.times(telemetry.stage(Stage::decode, false));
  families.begin("te_batch_next_size", MetricType::Histogram, "Inputs of batches (TEI's name)");
  SizeCounts sizes = telemetry.batches(true);
  const SizeCounts texts = telemetry.batches(false);
  for (std::size_t i = 0; i < sizes.buckets.size(); ++i) sizes.buckets[i] += texts.buckets[i];
  sizes.batches += texts.batches, sizes.items += texts.items;
  families.sizes(sizes);
  families.gauge("te_queue_size", "Inputs accepted and not yet answered (TEI's name)",
                 static_cast<double>(queue_items));
}

void add_triton(Families& families, const Telemetry& telemetry, std::size_t queue_items, const Outcomes& outcomes,
                const std::string& model) {
  const Labels labels{{"model", model}, {"version", "1"}};
  const auto counter = [&](const char* name, const char* help, double value) {
    families.begin(name, MetricType::Counter, help);
    families.counter(value, labels);
  };
  const auto micros = [](const TimeCounts& times) { return std::floor(times.seconds * 1e6); };
  counter("nv_inference_request_success", "Requests answered well (Triton's name)", static_cast<double>(outcomes.good));
  counter("nv_inference_request_failure", "Requests that failed (Triton's name)",
          static_cast<double>(outcomes.all - outcomes.good));
  counter("nv_inference_count", "Inputs computed (Triton's name)",
          static_cast<double>(telemetry.items(true) + telemetry.items(false)));
  counter("nv_inference_exec_count", "Batches computed (Triton's name)",
          static_cast<double>(telemetry.batches(true).batches + telemetry.batches(false).batches));
  families.begin("nv_inference_pending_request_count", MetricType::Gauge,
                 "Inputs accepted and not yet answered (Triton's name)");
  families.gauge(static_cast<double>(queue_items), labels);
  counter("nv_inference_request_duration_us", "Time of requests with inputs (Triton's name)",
          micros(telemetry.total()));
  counter("nv_inference_queue_duration_us", "Time that inputs waited (Triton's name)",
          micros(both(telemetry, Stage::queue)));
  TimeCounts input = both(telemetry, Stage::decode);
  input.add(both(telemetry, Stage::resize)), input.add(both(telemetry, Stage::copy));
  counter("nv_inference_compute_input_duration_us", "Time of preparing inputs (Triton's name)", micros(input));
  counter("nv_inference_compute_infer_duration_us", "Time of batches (Triton's name)",
          micros(both(telemetry, Stage::compute)));
  std::uint64_t hits = 0, misses = 0;
  for (const Cache cache : kCaches) hits += telemetry.cache(cache).hits, misses += telemetry.cache(cache).misses;
  counter("nv_cache_num_hits_per_model", "Inputs found in a cache (Triton's name)", static_cast<double>(hits));
  counter("nv_cache_num_misses_per_model", "Inputs not found in a cache (Triton's name)", static_cast<double>(misses));
}

}  // namespace

void add_known_names(Families& families, const Telemetry& telemetry, std::size_t queue_items,
                     const std::string& model) {
  const std::vector<Telemetry::OfRoute> routes = telemetry.routes();
  const Outcomes outcomes = outcomes_of(routes);
  add_http(families, routes);
  add_tei(families, telemetry, queue_items, outcomes);
  add_triton(families, telemetry, queue_items, outcomes, model);
}

}  // namespace tandem::telemetry
