#include "cli/bench_tune.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "backend/tuning.h"
#include "base/strings.h"
#include "cli/bench_pass.h"
#include "engine/backends.h"

namespace tandem::cli {

void tune(const BenchOptions& options, const model::ModelFiles& files, const BenchInputs& inputs, std::size_t batch,
          Console& console) {
  ContextOptions context = options.common.context;
  context.graphs = false, context.log = console.log_sink();
  const auto backend = engine::make_backend(options.common.engine.device, context);
  if (backend->choices() == nullptr) {
    throw Error(Code::invalid_argument,
                cat("--tune chooses among a GPU's algorithms, and ", to_string(backend->device()),
                    " has none to choose from: use --device cuda"));
  }
  backend->start_tuning();
  console.note(cat("tuning on ", backend->device_name(), "; a few seconds a shape"));
  const auto begin = std::chrono::steady_clock::now();
  BenchPass pass(*backend, files, options, inputs, batch);
  if (!inputs.images.empty()) pass.images(0);
  // Texts of other lengths have other shapes.
  for (std::size_t first = 0; first < inputs.texts.size(); first += batch) pass.texts(first);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  const std::string found = backend->tuned();
  const auto shapes = std::count(found.begin(), found.end(), '\n');
  backend::add_tuning(options.tune, found);
  if (console.json) {
    const nlohmann::ordered_json line{{"model", options.common.engine.model},
                                      {"device", to_string(backend->device())},
                                      {"device_name", backend->device_name()},
                                      {"precision", std::string(to_string(pass.model().precision))},
                                      {"what", name_of(options.what)},
                                      {"batch", batch},
                                      {"tuning_file", options.tune},
                                      {"tuned_shapes", shapes},
                                      {"seconds", seconds.count()}};
    console.print(line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
  } else {
    console.print(cat(shapes, " shapes of ", options.common.engine.model, " on ", backend->device_name(), ", batch ",
                      batch, ", measured in ", static_cast<int>(seconds.count()), " s and written to ", options.tune,
                      "; used where TANDEM_TUNING names it\n"));
  }
}

}  // namespace tandem::cli
