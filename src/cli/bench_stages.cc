#include "cli/bench_stages.h"

#include <algorithm>
#include <functional>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <sstream>

#include "backend/timed_backend.h"
#include "base/strings.h"
#include "cli/bench_pass.h"
#include "engine/backends.h"

namespace tandem::cli {
namespace {

using Json = nlohmann::ordered_json;

// The mean of several passes: {"total_ms", "stages": [{"stage", "ms", "share", "operations"}]}, the longest first.
Json measure(backend::TimedBackend& backend, const BenchOptions& options, std::size_t batch,
             const std::function<void(std::size_t first)>& pass) {
  std::size_t at = 0;
  const auto run = [&](int count) {
    for (int i = 0; i < count; ++i, at += batch) pass(at);
    return backend.take_stages();
  };
  run(options.warmup);
  auto stages = run(options.runs);
  std::stable_sort(stages.begin(), stages.end(),
                   [](const auto& a, const auto& b) { return a.milliseconds > b.milliseconds; });
  double total = 0;
  for (const auto& s : stages) total += s.milliseconds;
  Json list = Json::array();
  for (const auto& s : stages) {
    list.push_back({{"stage", s.name},
                    {"ms", s.milliseconds / options.runs},
                    {"share", s.milliseconds / total},
                    {"operations", s.operations / options.runs}});
  }
  return {{"total_ms", total / options.runs}, {"stages", std::move(list)}};
}

std::string for_people(const Json& tower, const char* what) {
  std::ostringstream out;
  out << std::fixed << '\n' << std::left << std::setw(20) << what << std::right << "        ms   share  operations\n";
  const auto line = [&](const std::string& name, double ms, double share) -> std::ostream& {
    return out << std::left << std::setw(20) << name << std::right << std::setprecision(3) << std::setw(10) << ms
               << std::setprecision(1) << std::setw(6) << 100 * share << " %";
  };
  for (const Json& s : tower["stages"]) {
    line(s["stage"], s["ms"], s["share"]) << std::setw(12) << s["operations"].get<int>() << '\n';
  }
  line("together", tower["total_ms"], 1) << '\n';
  return out.str();
}

}  // namespace

Json measure_stages(const BenchOptions& options, const model::ModelFiles& files, const BenchInputs& inputs,
                    std::size_t batch, Console& console) {
  ContextOptions context = options.common.context;
  context.graphs = false, context.log = console.log_sink();
  backend::TimedBackend backend(engine::make_backend(options.common.engine.device, context));
  BenchPass pass(backend, files, options, inputs, batch);
  backend.take_stages();  // of loading
  Json result{{"model", options.common.engine.model},
              {"device", to_string(backend.device())},
              {"device_name", backend.device_name()},
              {"isa", backend.isa()},
              {"precision", std::string(to_string(pass.model().precision))},
              {"batch", batch},
              {"runs", options.runs}};
  if (!inputs.images.empty()) {
    result["image"] = measure(backend, options, batch, [&](std::size_t first) { pass.images(first); });
  }
  if (!inputs.texts.empty()) {
    result["text"] = measure(backend, options, batch, [&](std::size_t first) { pass.texts(first); });
  }
  return result;
}

void show_stages(const BenchOptions& options, const model::ModelFiles& files, const BenchInputs& inputs,
                 std::size_t batch, Console& console) {
  const Json result = measure_stages(options, files, inputs, batch, console);
  if (console.json) return console.print(result.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
  console.print(cat(options.common.engine.model, " on ", result["device_name"].get<std::string>(), " (",
                    result["isa"].get<std::string>(), ", ", result["precision"].get<std::string>(), "), batch ", batch,
                    ": milliseconds of a pass that is issued step by step\n"));
  for (const char* tower : {"image", "text"}) {
    if (result.contains(tower)) console.print(for_people(result[tower], tower));
  }
}

}  // namespace tandem::cli
