#include "loadtest/report.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <numeric>
#include <sstream>

#include "base/percentile.h"
#include "base/strings.h"

namespace tandem::loadtest {
namespace {

using Json = nlohmann::ordered_json;

std::vector<float> sorted(const LoadResult& result, float Sample::*field, int kind = -1) {
  std::vector<float> values;
  for (const Sample& sample : result.tally.samples) {
    if (kind < 0 || static_cast<int>(sample.kind) == kind) values.push_back(sample.*field);
  }
  std::sort(values.begin(), values.end());
  return values;
}

double rounded(double value) {
  return std::round(value * 1000) / 1000;
}

Json summary(const std::vector<float>& values) {
  if (values.empty()) return nullptr;
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  return {{"count", values.size()},
          {"mean", rounded(sum / static_cast<double>(values.size()))},
          {"min", rounded(values.front())},
          {"p50", rounded(percentile(values, 0.5))},
          {"p75", rounded(percentile(values, 0.75))},
          {"p90", rounded(percentile(values, 0.9))},
          {"p95", rounded(percentile(values, 0.95))},
          {"p99", rounded(percentile(values, 0.99))},
          {"p99_9", rounded(percentile(values, 0.999))},
          {"p99_99", rounded(percentile(values, 0.9999))},
          {"max", rounded(values.back())}};
}

bool open_loop(const LoadOptions& options) {
  return options.arrivals != Arrivals::closed;
}

double rate(std::uint64_t count, double seconds) {
  return seconds > 0 ? rounded(static_cast<double>(count) / seconds) : 0;
}

const char* latency_note(const LoadOptions& options) {
  return open_loop(options)
             ? "from the time at which the schedule wanted the request sent: corrected for coordinated omission"
             : "from the time of sending: in a closed loop a slow server is sent less, so the slowest percentiles are "
               "flattered; use a rate to correct for coordinated omission";
}

const char* name_of(Body body) {
  constexpr std::array<const char*, 5> kNames = {"json", "raw", "pixels", "custom", "get"};
  return kNames[static_cast<std::size_t>(body)];
}

}  // namespace

Json report(const LoadOptions& options, const LoadResult& result) {
  const Tally& tally = result.tally;
  const MixOptions& mix = options.mix;
  Json statuses = Json::object(), lost = Json::object();
  for (const auto& [status, count] : tally.statuses) statuses[std::to_string(status)] = count;
  for (std::size_t i = 0; i < kLostKinds; ++i) {
    lost[std::string(loadtest::name_of(static_cast<Lost>(i)))] = tally.lost[i];
  }
  const Json load{{"arrivals", loadtest::name_of(options.arrivals)},
                  {"rate", open_loop(options) ? Json(options.rate) : Json(nullptr)},
                  {"concurrency", options.concurrency},
                  {"threads", options.threads},
                  {"seconds", options.requests > 0 ? Json(nullptr) : Json(options.seconds)},
                  {"requests", options.requests > 0 ? Json(options.requests) : Json(nullptr)},
                  {"warmup", options.warmup},
                  {"timeout", options.timeout},
                  {"seed", options.seed},
                  {"body", name_of(mix.body)},
                  {"items", mix.items},
                  {"texts", mix.texts},
                  {"corrupt", mix.corrupt},
                  {"repeat", mix.repeat},
                  {"pictures", result.pictures},
                  {"picture_bytes", rounded(result.picture_bytes)}};
  const Json requests{{"sent", tally.sent},
                      {"answered", tally.answered},
                      {"unanswered", tally.unanswered()},
                      {"right", tally.right},
                      {"refused", tally.refused},
                      {"wrong", tally.wrong},
                      {"right_refusals", tally.right_refusals},
                      {"retried", tally.retried}};
  return {{"url", cat("http://", options.url.authority, options.url.path)},
          {"load", load},
          {"interrupted", result.interrupted},
          {"measured_seconds", rounded(result.seconds)},
          {"requests", requests},
          {"statuses", statuses},
          {"unanswered", lost},
          {"wrong_examples", tally.examples},
          {"requests_per_second", rate(tally.measured_right, result.seconds)},
          {"items_per_second", rate(tally.measured_items, result.seconds)},
          {"latency_from", latency_note(options)},
          {"latency_ms", summary(sorted(result, &Sample::latency))},
          {"image_latency_ms", summary(sorted(result, &Sample::latency, static_cast<int>(Kind::image)))},
          {"text_latency_ms", summary(sorted(result, &Sample::latency, static_cast<int>(Kind::text)))},
          {"service_ms", summary(sorted(result, &Sample::service))},
          {"generator",
           {{"cpu_seconds", rounded(result.cpu_seconds)},
            {"latest_dispatch_ms", rounded(tally.latest_dispatch)},
            {"connections", tally.connections},
            {"bytes_sent", tally.bytes_sent},
            {"bytes_received", tally.bytes_received}}}};
}

std::string for_people(const LoadOptions& options, const LoadResult& result) {
  const Tally& tally = result.tally;
  std::ostringstream out;
  out << std::fixed << std::setprecision(1);
  out << tally.sent << " requests to http://" << options.url.authority << options.url.path << ": " << tally.right
      << " right";
  if (tally.right_refusals > 0)
    out << " (" << tally.right_refusals << " of them corrupt pictures, refused as they must be)";
  out << ", " << tally.refused << " refused for want of room, " << tally.wrong << " wrong, " << tally.unanswered()
      << " unanswered";
  for (std::size_t i = 0; i < kLostKinds; ++i) {
    if (tally.lost[i] > 0) out << " [" << loadtest::name_of(static_cast<Lost>(i)) << " " << tally.lost[i] << "]";
  }
  out << "\nstatus:";
  for (const auto& [status, count] : tally.statuses) out << "  " << status << ": " << count;
  out << "\n" << rate(tally.measured_right, result.seconds) << " requests/s";
  if (tally.measured_items > 0) out << ", " << rate(tally.measured_items, result.seconds) << " items/s";
  out << " over " << result.seconds << " s\n";
  const auto line = [&](const char* name, const std::vector<float>& values) {
    if (values.empty()) return;
    out << std::setprecision(2) << name << " ms: p50 " << percentile(values, 0.5) << "  p90 " << percentile(values, 0.9)
        << "  p99 " << percentile(values, 0.99) << "  p99.9 " << percentile(values, 0.999) << "  max " << values.back()
        << "\n";
  };
  line("latency", sorted(result, &Sample::latency));
  if (open_loop(options)) line("service", sorted(result, &Sample::service));
  out << "latency is counted " << latency_note(options) << "\n";
  for (const std::string& example : tally.examples) out << "wrong: " << example << "\n";
  return out.str();
}

}  // namespace tandem::loadtest
