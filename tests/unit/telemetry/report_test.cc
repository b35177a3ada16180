// Metrics and statistics made from one Telemetry agree with what was counted.
#include "telemetry/report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

namespace tandem::telemetry {
namespace {

using nlohmann::json;

/// "name{labels} value" → value.
std::map<std::string, double> parse(const std::string& text) {
  std::map<std::string, double> out;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.empty() || line[0] == '#') continue;
    const std::size_t space = line.rfind(' ');
    EXPECT_TRUE(out.emplace(line.substr(0, space), std::stod(line.substr(space + 1))).second) << "twice: " << line;
  }
  return out;
}

class Report : public ::testing::Test {
 protected:
  Report() {
    for (int i = 0; i < 10; ++i) {
      telemetry.request_begun();
      telemetry.request_done({0, i == 0 ? 400 : 200, 0.010, i == 0 ? 0u : 1u, 0, 100, 50});
    }
    telemetry.request_begun();
    telemetry.request_done({1, 200, 0.0001, 0, 0, 0, 20});
    telemetry.request_begun();
    telemetry.request_done({77, 404, 0.0001, 0, 0, 0, 20});
    telemetry.request_begun();
    for (int i = 0; i < 8; ++i) telemetry.prepared(true, 0.004, 0.001), telemetry.waited(true, 0.002);
    telemetry.computed(true, 5, 0.001, 0.019);
    telemetry.computed(true, 3, 0.001, 0.009);
    telemetry.prepared(false, 0.0001, 0);
    telemetry.computed(false, 1, 0, 0.010);
    telemetry.cache(Cache::texts).hits = 3;
    telemetry.cache(Cache::texts).misses = 1;
    telemetry.key("alice")->requests = 4;
    live.model = "fake \"model\"", live.state = "ready", live.ready = true, live.alive = true;
    live.replicas = 2, live.working = 1, live.queue_items = 6, live.queue_limit = 4096;
    live.gpus.push_back({"0", "GPU", "GPU-1", 50, 100, 70, 0.5, 300, 10});
    live.process.resident_bytes = 12345;
  }
  Telemetry telemetry{{{"POST", "/v1/embeddings"}, {"GET", "/health"}}};
  Live live;
};

TEST_F(Report, MetricsSayWhatWasCounted) {
  const std::string text = metrics_text(telemetry, live);
  const auto m = parse(text);
  const auto at = [&](const std::string& name) {
    EXPECT_TRUE(m.contains(name)) << name << "\n" << text;
    return m.contains(name) ? m.at(name) : -1;
  };
  EXPECT_EQ(at("tandem_requests_total"), 12);
  EXPECT_EQ(at("tandem_requests_in_flight"), 1);
  EXPECT_EQ(at("http_requests_total{handler=\"/v1/embeddings\",method=\"POST\",status=\"200\"}"), 9);
  EXPECT_EQ(at("http_requests_total{handler=\"other\",method=\"other\",status=\"404\"}"), 1);
  EXPECT_EQ(at("tandem_request_seconds_count"), 9);
  EXPECT_NEAR(at("tandem_request_seconds_sum"), 0.09, 1e-6);
  EXPECT_EQ(at("tandem_decode_seconds_count{kind=\"image\"}"), 8);
  EXPECT_NEAR(at("tandem_resize_seconds_sum{kind=\"image\"}"), 0.008, 1e-6);
  EXPECT_EQ(at("tandem_queue_seconds_count{kind=\"image\"}"), 8);
  EXPECT_NEAR(at("tandem_compute_seconds_sum{kind=\"image\"}"), 0.028, 1e-6);
  EXPECT_NEAR(at("tandem_copy_seconds_sum{kind=\"image\"}"), 0.002, 1e-6);
  EXPECT_EQ(at("tandem_items_total{kind=\"image\"}"), 8);
  EXPECT_EQ(at("tandem_batch_size_bucket{kind=\"image\",le=\"2\"}"), 0);
  EXPECT_EQ(at("tandem_batch_size_bucket{kind=\"image\",le=\"4\"}"), 1);
  EXPECT_EQ(at("tandem_batch_size_bucket{kind=\"image\",le=\"8\"}"), 2);
  EXPECT_EQ(at("tandem_batch_size_sum{kind=\"image\"}"), 8);
  EXPECT_EQ(at("tandem_cache_hits_total{cache=\"texts\"}"), 3);
  EXPECT_EQ(at("tandem_key_requests_total{key=\"alice\"}"), 4);
  EXPECT_EQ(at("tandem_queue_items"), 6);
  EXPECT_EQ(at("tandem_degraded"), 1);
  EXPECT_EQ(at("tandem_gpu_memory_peak_bytes{gpu=\"0\",uuid=\"GPU-1\"}"), 70);
  EXPECT_EQ(at("process_resident_memory_bytes"), 12345);
  EXPECT_EQ(at("te_request_count"), 10);
  EXPECT_EQ(at("te_request_success"), 9);
  EXPECT_EQ(at("te_request_failure{err=\"400\"}"), 1);
  EXPECT_EQ(at("nv_inference_count{model=\"fake \\\"model\\\"\",version=\"1\"}"), 9);
  EXPECT_EQ(at("nv_inference_exec_count{model=\"fake \\\"model\\\"\",version=\"1\"}"), 3);
}

TEST_F(Report, AHistogramNeverFallsAndEndsWithItsCount) {
  std::map<std::string, std::pair<double, double>> last;  // series: the latest bound's count, and that of +Inf
  std::istringstream lines(metrics_text(telemetry, live));
  std::set<std::string> families;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("# TYPE ")) {
      EXPECT_TRUE(families.insert(line).second) << line;
    }
    const std::size_t le = line.find("le=\"");
    if (le == std::string::npos) continue;
    const double count = std::stod(line.substr(line.rfind(' ')));
    auto& [before, end] = last[line.substr(0, le)];
    EXPECT_GE(count, before) << line;
    before = count;
    if (line.find("+Inf") != std::string::npos) end = count;
  }
  EXPECT_GT(last.size(), 8u);
  for (const auto& [series, counts] : last) EXPECT_EQ(counts.first, counts.second) << series;
}

TEST_F(Report, StatisticsAgreeWithTheMetrics) {
  const json stats = json::parse(stats_json(telemetry, live));
  EXPECT_EQ(stats["requests"]["total"], 12);
  EXPECT_EQ(stats["requests"]["in_flight"], 1);
  EXPECT_EQ(stats["requests"]["statuses"], json::parse(R"({"200":10,"400":1,"404":1})"));
  EXPECT_EQ(stats["latency"]["count"], 9);
  for (const char* percentile : {"p50_ms", "p95_ms", "p99_ms"}) {
    EXPECT_NEAR(stats["latency"][percentile], 10, 10.0 / 16);
    EXPECT_NEAR(stats["latency"]["recent"][percentile], 10, 10.0 / 16);
  }
  EXPECT_EQ(stats["items"], json::parse(R"({"images":8,"texts":1})"));
  EXPECT_EQ(stats["batches"]["images"]["batches"], 2);
  EXPECT_EQ(stats["batches"]["images"]["mean_size"], 4.0);
  EXPECT_EQ(stats["batches"]["images"]["histogram"][3], json::parse(R"({"most":8,"batches":1})"));
  EXPECT_EQ(stats["caches"]["texts"]["hit_rate"], 0.75);
  EXPECT_EQ(stats["queue"]["items"], 6);
  EXPECT_EQ(stats["keys"]["alice"]["requests"], 4);
  EXPECT_EQ(stats["memory"]["gpus"][0]["utilization"], 0.5);

  double shares = 0, busy = 0;
  for (const auto& [name, stage] : stats["stages"].items()) {
    shares += stage["share"].get<double>();
    if (name != "queue") busy += stage["busy_share"].get<double>();
  }
  EXPECT_NEAR(shares, 1, 1e-9);
  EXPECT_NEAR(busy, 1, 1e-9);
  // An item's way: 8 waited 2 ms and took 4 + 1 ms, one took 0.1 ms; 5 were 20 ms in their batch, 3 were 10, one 10.
  const double way = 8 * 0.007 + 0.0001 + 5 * 0.02 + 3 * 0.01 + 0.01;
  EXPECT_NEAR(stats["stages"]["queue"]["share"], 8 * 0.002 / way, 1e-4);
  EXPECT_NEAR(stats["stages"]["decode"]["busy_share"], 0.0321 / (0.0321 + 0.008 + 0.002 + 0.038), 1e-4);
}

TEST(ReportEmpty, AServerThatHasDoneNothingHasNoNumbersThatAreNone) {
  const Telemetry telemetry{{{"GET", "/health"}}};
  const json stats = json::parse(stats_json(telemetry, {}));
  EXPECT_EQ(stats["latency"]["p99_ms"], 0.0);
  EXPECT_EQ(stats["stages"]["compute"]["share"], 0.0);
  EXPECT_EQ(metrics_text(telemetry, {}).find("nan"), std::string::npos);
  EXPECT_EQ(parse(metrics_text(telemetry, {})).at("tandem_request_seconds_count"), 0);
}

}  // namespace
}  // namespace tandem::telemetry
