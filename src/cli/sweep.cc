#include "cli/sweep.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "base/percentile.h"
#include "base/strings.h"
#include "cli/console.h"
#include "plot/charts.h"

namespace tandem::cli {
namespace {

using Json = nlohmann::ordered_json;
using plot::short_number;

std::string unit_of(const Sweep& sweep) {
  return sweep.what == "text" ? "texts/s" : sweep.what == "image" ? "images/s" : "pairs/s";
}

std::string title(const Sweep& sweep) {
  return cat(sweep.model, sweep.what == "text" ? " texts" : sweep.what == "image" ? " images" : " images and texts");
}

/// "bf16", or with the device where there are several.
std::string name_of(const Sweep& sweep, const SweepRun& run) {
  std::set<std::string> devices;
  for (const SweepRun& r : sweep.runs) devices.insert(r.device);
  return devices.size() > 1 ? cat(run.precision, " on ", run.device) : run.precision;
}

const SweepPoint* fastest(const SweepRun& run) {
  const auto found = std::max_element(run.points.begin(), run.points.end(),
                                      [](const auto& a, const auto& b) { return a.per_second() < b.per_second(); });
  return found == run.points.end() ? nullptr : &*found;
}

std::string mib(std::size_t bytes) {
  return cat(short_number(std::round(static_cast<double>(bytes) / (1 << 20) * 10) / 10), " MiB");
}

std::string cosine(double value) {
  std::ostringstream out;
  out.precision(6);
  out << value;
  return out.str();
}

Json json_of(const Recommendation& r, Goal goal) {
  Json out{{"goal", name_of(goal)}};
  if (r.run == nullptr) {
    out["flags"] = nullptr;
    return out;
  }
  out["device"] = r.run->device, out["precision"] = r.run->precision, out["batch"] = r.point->batch;
  out["median_ms"] = r.point->at(0.5), out["p95_ms"] = r.point->at(0.95), out["per_second"] = r.point->per_second();
  out["memory_bytes"] = r.point->memory_bytes, out["min_cosine"] = r.run->min_cosine;
  out["flags"] = r.flags;
  return out;
}

constexpr Goal kGoals[] = {Goal::latency, Goal::throughput, Goal::memory};

}  // namespace

Goal parse_goal(std::string_view name) {
  for (const Goal goal : kGoals) {
    if (name == name_of(goal)) return goal;
  }
  throw UsageError(cat("goal '", name, "' is unknown: choose one of latency, throughput, memory"));
}

const char* name_of(Goal goal) {
  return goal == Goal::latency ? "latency" : goal == Goal::throughput ? "throughput" : "memory";
}

double SweepPoint::at(double share) const {
  return percentile(times, share);
}

Recommendation recommend(const Sweep& sweep, Goal goal, double most_ms, double least_cosine) {
  Recommendation best;
  const auto better = [&](const SweepPoint& a, const SweepPoint& b) {
    switch (goal) {
      case Goal::latency: return a.batch != b.batch ? a.batch < b.batch : a.at(0.5) < b.at(0.5);
      case Goal::throughput: return a.per_second() > b.per_second();
      case Goal::memory:
        return a.memory_bytes != b.memory_bytes ? a.memory_bytes < b.memory_bytes : a.at(0.5) < b.at(0.5);
    }
    return false;
  };
  for (const SweepRun& run : sweep.runs) {
    if (!(run.min_cosine >= least_cosine)) continue;
    for (const SweepPoint& point : run.points) {
      if (most_ms > 0 && point.at(0.95) > most_ms) continue;
      if (best.point == nullptr || better(point, *best.point)) best.run = &run, best.point = &point;
    }
  }
  if (best.run == nullptr) return best;
  best.flags = cat("--device ", best.run->device, " --precision ", best.run->precision);
  int batch = best.point->batch;
  if (goal == Goal::latency) {  // a crowd's pass may be as large as the limit allows
    for (const SweepPoint& point : best.run->points) {
      if (most_ms > 0 && point.at(0.95) <= most_ms) batch = point.batch;
    }
    if (most_ms <= 0) batch = 0;
  }
  if (batch > 0) best.flags += cat(" --max-batch ", batch);
  return best;
}

Json to_json(const Sweep& sweep, const SweepLimits& limits) {
  Json out{{"model", sweep.model},
           {"what", sweep.what},
           {"date", sweep.machine_date},
           {"seconds", sweep.seconds},
           {"accuracy_items", sweep.accuracy_items}};
  Json runs = Json::array();
  for (const SweepRun& run : sweep.runs) {
    Json one{{"device", run.device},
             {"device_name", run.device_name},
             {"isa", run.isa},
             {"precision", run.precision},
             {"load_seconds", run.load_seconds},
             {"weight_bytes", run.weight_bytes},
             {"eight_bit_share", run.eight_bit_share},
             {"mean_cosine", run.mean_cosine},
             {"min_cosine", run.min_cosine},
             {"left_out", run.left_out.empty() ? Json(nullptr) : Json(run.left_out)}};
    Json points = Json::array();
    for (const SweepPoint& p : run.points) {
      Json quantiles = Json::array();
      for (int i = 0; i <= 20; ++i) quantiles.push_back(p.at(i / 20.0));
      points.push_back({{"batch", p.batch},
                        {"runs", p.times.size()},
                        {"mean_ms", p.mean_ms},
                        {"median_ms", p.at(0.5)},
                        {"p95_ms", p.at(0.95)},
                        {"p99_ms", p.at(0.99)},
                        {"min_ms", p.at(0)},
                        {"per_second", p.per_second()},
                        {"memory_bytes", p.memory_bytes},
                        {"quantiles_ms", std::move(quantiles)}});
    }
    one["points"] = std::move(points);
    Json stages = Json::array();
    for (const auto& [name, ms] : run.stages) stages.push_back({{"stage", name}, {"ms", ms}});
    one["stages_batch"] = run.stages_batch, one["stages"] = std::move(stages);
    runs.push_back(std::move(one));
  }
  out["runs"] = std::move(runs);
  out["limits"] = {{"goal", name_of(limits.goal)},
                   {"max_latency_ms", limits.most_ms > 0 ? Json(limits.most_ms) : Json(nullptr)},
                   {"min_cosine", limits.least_cosine}};
  Json recommended = Json::array();
  for (const Goal goal : kGoals) {
    recommended.push_back(json_of(recommend(sweep, goal, limits.most_ms, limits.least_cosine), goal));
  }
  out["recommended"] = std::move(recommended);
  Json modes = Json::array();
  for (const SweepMode& m : sweep.modes) {
    modes.push_back({{"mode", m.mode}, {"device", m.device}, {"precision", m.precision}, {"flags", m.flags}});
  }
  out["modes"] = std::move(modes);
  return out;
}

std::string to_markdown(const Sweep& sweep, const SweepLimits& limits, const std::vector<std::string>& plots) {
  const std::string unit = unit_of(sweep);
  std::string out = cat("# ", title(sweep), "\n\n");
  std::set<std::string> devices;
  for (const SweepRun& run : sweep.runs) {
    if (devices.insert(run.device).second) {
      out += cat("- `", run.device, "`: ", run.device_name, " (", run.isa, ")\n");
    }
  }
  out += cat("- ", sweep.machine_date, ", ", short_number(std::round(sweep.seconds)),
             " s in all; cosines to fp32 over ", sweep.accuracy_items, " random inputs\n\n");
  out += cat("| device | precision | one: median | one: p95 | best batch | ", unit,
             " | batch: median | weights | memory | cosine, mean | worst |\n"
             "|---|---|---|---|---|---|---|---|---|---|---|\n");
  for (const SweepRun& run : sweep.runs) {
    const SweepPoint* best = fastest(run);
    if (best == nullptr) {
      out += cat("| ", run.device, " | ", run.precision, " | – | – | – | – | – | – | – | – | ", run.left_out, " |\n");
      continue;
    }
    const SweepPoint& one = run.points.front();
    const std::string smallest = one.batch == 1 ? "" : cat(" (batch ", one.batch, ")");
    out += cat("| ", run.device, " | ", run.precision, " | ", short_number(one.at(0.5)), " ms", smallest, " | ",
               short_number(one.at(0.95)), " ms | ", best->batch, " | ", short_number(best->per_second()), " | ",
               short_number(best->at(0.5)), " ms | ", mib(run.weight_bytes), " | ", mib(best->memory_bytes), " | ",
               cosine(run.mean_cosine), " | ", cosine(run.min_cosine), " |\n");
  }
  for (const SweepRun& run : sweep.runs) {
    if (!run.left_out.empty() && !run.points.empty()) {
      out += cat("\n", run.precision, " on ", run.device, ": ", run.left_out, ".\n");
    }
  }
  out += "\n## Recommended\n\n";
  if (limits.most_ms > 0)
    out += cat("Within ", limits.most_ms, " ms in 95 of 100 batches, w");
  else
    out += "W";
  out += cat("ith a worst cosine to fp32 of at least ", limits.least_cosine, ":\n\n| goal | settings | median | ", unit,
             " | memory |\n|---|---|---|---|---|\n");
  for (const Goal goal : kGoals) {
    const Recommendation r = recommend(sweep, goal, limits.most_ms, limits.least_cosine);
    const std::string name = goal == limits.goal ? cat("**", name_of(goal), "**") : name_of(goal);
    if (r.run == nullptr) {
      out += cat("| ", name, " | nothing measured fits | – | – | – |\n");
    } else {
      out += cat("| ", name, " | `", r.flags, "` | ", short_number(r.point->at(0.5)), " ms | ",
                 short_number(r.point->per_second()), " | ", mib(r.point->memory_bytes), " |\n");
    }
  }
  out +=
      "\n## Modes\n\n`tandem serve --mode NAME` and `tandem embed --mode NAME` mean here:\n\n"
      "| mode | sets | for |\n|---|---|---|\n";
  for (const SweepMode& m : sweep.modes) {
    out += cat("| ", m.mode, " | ", m.flags.empty() ? "–" : cat("`", m.flags, "`"), " | ", m.help, " |\n");
  }
  for (const std::string& plot : plots) out += cat("\n![", plot.substr(0, plot.find('.')), "](", plot, ")\n");
  return out;
}

std::vector<std::pair<std::string, std::string>> to_plots(const Sweep& sweep) {
  const std::string unit = unit_of(sweep);
  plot::LineChart rate{
      cat(title(sweep), ": ", unit, " over the batch"), sweep.machine_date, "batch", unit, true, true, {}};
  plot::LineChart latency{cat(title(sweep), ": milliseconds of a batch"), "median", "batch", "ms", true, true, {}};
  plot::LineChart spread{cat(title(sweep), ": how latencies spread"),
                         "",
                         "share of the batches that were at least as fast, %",
                         "ms",
                         false,
                         false,
                         {}};
  std::vector<std::pair<std::string, std::string>> out;
  for (const SweepRun& run : sweep.runs) {
    if (run.points.empty()) continue;
    const std::string name = name_of(sweep, run);
    plot::Series per_second{name, {}}, median{name, {}}, share{name, {}};
    for (const SweepPoint& p : run.points) {
      per_second.points.push_back({static_cast<double>(p.batch), p.per_second()});
      median.points.push_back({static_cast<double>(p.batch), p.at(0.5)});
    }
    for (int i = 0; i < 100; ++i) share.points.push_back({static_cast<double>(i), run.points.front().at(i / 100.0)});
    spread.note = cat("batch ", run.points.front().batch, ", ", run.points.front().times.size(), " and more batches");
    rate.series.push_back(std::move(per_second)), latency.series.push_back(std::move(median));
    spread.series.push_back(std::move(share));
  }
  out.emplace_back("throughput.svg", plot::draw(rate));
  out.emplace_back("latency.svg", plot::draw(latency));
  out.emplace_back("distribution.svg", plot::draw(spread));
  for (const SweepRun& run : sweep.runs) {
    if (run.stages.empty()) continue;
    plot::PieChart pie{cat(title(sweep), " in ", run.precision, ": where the time goes"),
                       cat(run.device_name, ", batch ", run.stages_batch, ", issued step by step"),
                       "ms",
                       {}};
    for (const auto& [stage, ms] : run.stages) pie.slices.push_back({stage, ms});
    std::string device = run.device;
    std::replace(device.begin(), device.end(), ':', '-');
    out.emplace_back(cat("stages-", device, '-', run.precision, ".svg"), plot::draw(pie));
  }
  return out;
}

}  // namespace tandem::cli
