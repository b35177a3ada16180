// Building Prometheus' families: one call a metric.
#pragma once

#include <prometheus/metric_family.h>

#include <string>
#include <utility>
#include <vector>

#include "telemetry/telemetry.h"

namespace tandem::telemetry {

using Labels = std::vector<prometheus::ClientMetric::Label>;

class Families {
 public:
  /// A new family; what follows is added to it until the next one.
  void begin(std::string name, prometheus::MetricType type, std::string help);
  void counter(double value, Labels labels = {});
  void gauge(double value, Labels labels = {});
  void times(const TimeCounts& counts, Labels labels = {});
  void sizes(const SizeCounts& counts, Labels labels = {});

  // A family with one value.
  void counter(std::string name, std::string help, double value);
  void gauge(std::string name, std::string help, double value);

  const std::vector<prometheus::MetricFamily>& all() const noexcept { return all_; }

 private:
  prometheus::ClientMetric& add(Labels labels);
  std::vector<prometheus::MetricFamily> all_;
};

/// The names of other servers: TEI's te_…, Triton's nv_…, the FastAPI instrumentation's http_….
void add_known_names(Families& families, const Telemetry& telemetry, std::size_t queue_items, const std::string& model);

}  // namespace tandem::telemetry
