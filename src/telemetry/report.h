// What was counted, as text: Prometheus' format for machines, JSON for the page and for people.
#pragma once

#include <string>
#include <vector>

#include "telemetry/gpu_watch.h"
#include "telemetry/memory_watch.h"
#include "telemetry/telemetry.h"

namespace tandem::telemetry {

/// One model of the server at the moment of the question, and what it computed from the start on.
struct ModelFacts {
  /// A pass of so many items, and the seconds that it took when it was measured.
  struct Pass {
    int items = 0;
    double seconds = 0;
  };
  std::string name, device, precision;
  std::string state;  ///< as Live's
  bool ready = false;
  int replicas = 0, working = 0, replacing = 0;
  std::size_t queue_items = 0;
  std::size_t in_flight = 0;  ///< requests handed to it and not answered
  std::uint64_t images = 0, texts = 0, batches = 0;
  double compute_seconds = 0;  ///< of its batches
  // Before it was ready: what warmed it up, and what passes were measured to take.
  int warm_passes = 0;
  double warm_seconds = 0;
  std::vector<Pass> image_passes, text_passes;
  int text_tokens = 0;      ///< of each text of text_passes
  int recorded_passes = 0;  ///< by a GPU, before it was ready
};

/// What the server knows at the moment of the question.
struct Live {
  std::string version, model, device, precision;  ///< of the first model
  std::string state;                              ///< "loading", "ready", "draining", "failed"
  bool alive = false, ready = false;
  bool degraded = false;  ///< ready, but not every model or replica works
  // Of all models together.
  int replicas = 0, working = 0, replacing = 0;
  std::size_t queue_items = 0, queue_limit = 0;
  std::size_t request_bytes = 0, request_bytes_limit = 0;  ///< of all requests being read and answered
  std::size_t max_batch = 0;
  std::vector<ModelFacts> models;
  std::vector<GpuFacts> gpus;
  ProcessFacts process;
};

inline constexpr const char* kMetricsType = "text/plain; version=0.0.4; charset=utf-8";

/// Prometheus' text format: own names (tandem_…, listed in docs/operation.md), the process's usual ones, and the names
/// under which dashboards for TEI, Triton and FastAPI's instrumentation look for the same numbers.
std::string metrics_text(const Telemetry& telemetry, const Live& live);

/// {"requests", "latency", "batches", "stages", "queue", "caches", "memory", …}; docs/operation.md has every field.
std::string stats_json(const Telemetry& telemetry, const Live& live);

}  // namespace tandem::telemetry
