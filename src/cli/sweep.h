// What `bench --sweep` measured, and what can be said of it.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace tandem::cli {

enum class Goal : std::uint8_t { latency, throughput, memory };
Goal parse_goal(std::string_view name);
const char* name_of(Goal goal);

/// One batch size in one precision on one device.
struct SweepPoint {
  int batch = 0;
  std::vector<double> times;  ///< milliseconds of every timed batch, sorted
  double mean_ms = 0;
  std::size_t memory_bytes = 0;  ///< weights, and activations of such a batch
  double per_second() const { return mean_ms > 0 ? batch / mean_ms * 1000 : 0; }
  /// Milliseconds that a share of the batches was at least as fast as, by nearest rank.
  double at(double share) const;
};

/// One precision on one device.
struct SweepRun {
  std::string device, device_name, isa, precision;
  std::vector<SweepPoint> points;  ///< by batch
  std::string left_out;            ///< why larger batches, or all, were not measured; empty: none was left out
  std::size_t weight_bytes = 0;
  double load_seconds = 0, eight_bit_share = 0;
  double mean_cosine = 1, min_cosine = 1;  ///< to fp32
  int stages_batch = 0;
  std::vector<std::pair<std::string, double>> stages;  ///< milliseconds of a pass of stages_batch
};

struct SweepMode {
  std::string mode, help, device, precision, flags;
};

struct Sweep {
  std::string model, what, machine_date;
  int accuracy_items = 0;
  double seconds = 0;
  std::vector<SweepRun> runs;
  std::vector<SweepMode> modes;
};

/// What to run for a goal.
struct Recommendation {
  const SweepRun* run = nullptr;  ///< null: nothing fits the limits
  const SweepPoint* point = nullptr;
  std::string flags;  ///< "--device cpu --precision bf16 --max-batch 32"
};
/// latency: the shortest median of the smallest batch; throughput: the most items a second; memory: the fewest bytes,
/// of equals the faster. Only what keeps `most_ms` in 95 of 100 batches (0: any) and whose worst cosine to fp32 is at
/// least `least_cosine`.
Recommendation recommend(const Sweep& sweep, Goal goal, double most_ms, double least_cosine);

/// Limits that recommendations keep.
struct SweepLimits {
  Goal goal = Goal::latency;
  double most_ms = 0, least_cosine = 0.99;
};

nlohmann::ordered_json to_json(const Sweep& sweep, const SweepLimits& limits);
/// The table, recommendations and modes, with links to the plots where `plots` has their file names.
std::string to_markdown(const Sweep& sweep, const SweepLimits& limits, const std::vector<std::string>& plots);
/// File name and SVG: items a second and latency over the batch, the distribution of latencies, and where the time of a
/// pass goes in each precision.
std::vector<std::pair<std::string, std::string>> to_plots(const Sweep& sweep);

}  // namespace tandem::cli
