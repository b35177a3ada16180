#include "telemetry/families.h"

#include <limits>

namespace tandem::telemetry {

using prometheus::ClientMetric;
using prometheus::MetricType;

void Families::begin(std::string name, MetricType type, std::string help) {
  prometheus::MetricFamily family;
  family.name = std::move(name), family.help = std::move(help), family.type = type;
  all_.push_back(std::move(family));
}

ClientMetric& Families::add(Labels labels) {
  ClientMetric& metric = all_.back().metric.emplace_back();
  metric.label = std::move(labels);
  return metric;
}

void Families::counter(double value, Labels labels) {
  add(std::move(labels)).counter.value = value;
}

void Families::gauge(double value, Labels labels) {
  add(std::move(labels)).gauge.value = value;
}

void Families::times(const TimeCounts& counts, Labels labels) {
  ClientMetric::Histogram& histogram = add(std::move(labels)).histogram;
  histogram.sample_count = counts.count, histogram.sample_sum = counts.seconds;
  for (const TimeCounts::Bound& bound : counts.bounds()) {
    histogram.bucket.push_back({bound.cumulative, bound.seconds});
  }
  histogram.bucket.push_back({counts.count, std::numeric_limits<double>::infinity()});
}

void Families::sizes(const SizeCounts& counts, Labels labels) {
  ClientMetric::Histogram& histogram = add(std::move(labels)).histogram;
  histogram.sample_count = counts.batches, histogram.sample_sum = static_cast<double>(counts.items);
  std::uint64_t cumulative = 0;
  for (std::size_t i = 0; i < SizeCounts::kBounds; ++i) {
    cumulative += counts.buckets[i];
    histogram.bucket.push_back({cumulative, static_cast<double>(std::size_t{1} << i)});
  }
  histogram.bucket.push_back({counts.batches, std::numeric_limits<double>::infinity()});
}

void Families::counter(std::string name, std::string help, double value) {
  begin(std::move(name), MetricType::Counter, std::move(help));
  counter(value);
}

void Families::gauge(std::string name, std::string help, double value) {
  begin(std::move(name), MetricType::Gauge, std::move(help));
  gauge(value);
}

}  // namespace tandem::telemetry
