#include "cli/verify_layers.h"

#include <algorithm>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/strings.h"
#include "cli/load_model.h"
#include "engine/backends.h"
#include "engine/preparer.h"

namespace tandem::cli {
namespace {

using Json = nlohmann::ordered_json;

/// One side, without an engine around it.
struct Opened {
  model::ModelFiles files;
  std::unique_ptr<backend::Backend> backend;
  model::Model model;
};

Opened open_side(const CommonOptions& options, const VerifyInputs& inputs, Console& console) {
  ContextOptions context = options.context;
  context.graphs = false, context.log = console.log_sink();
  Opened side;
  side.backend = engine::make_backend(options.engine.device, context);
  side.files = open_model(options);
  side.model = load_model(*side.backend, side.files, options.engine, inputs.pictures->size() > 0,
                          !inputs.texts.empty() || !inputs.prompts.empty());
  return side;
}

/// What the towers read of some inputs; those that cannot be prepared have been named already.
verify::LayerInputs prepare(const model::ModelFiles& files, const EngineOptions& options, const VerifyInputs& inputs,
                            std::size_t items) {
  const engine::Preparer preparer(files, engine::prepare_options(options, files));
  verify::LayerInputs out;
  for (const std::size_t i : samples::evenly(inputs.pictures->size(), items)) {
    try {
      engine::Prepared picture = preparer.prepare(inputs.pictures->open(i));
      const auto side = static_cast<std::size_t>(preparer.input_size());
      out.pictures.emplace_back(picture.pixels(), picture.pixels() + side * side * 3);
    } catch (const Error&) {
    }
  }
  const auto& texts = inputs.texts_are_prompts ? inputs.prompts : inputs.texts;
  for (const std::size_t i : samples::evenly(texts.size(), items)) {
    try {
      out.texts.push_back(preparer.prepare(texts[i]).ids);
    } catch (const Error&) {
    }
  }
  return out;
}

}  // namespace

std::vector<verify::LayerError> compare_layers(const CommonOptions& got, const CommonOptions& want,
                                               const VerifyInputs& inputs, std::size_t items, Console& console) {
  const Opened ours = open_side(got, inputs, console), theirs = open_side(want, inputs, console);
  auto layers = verify::profile_layers({*ours.backend, ours.model}, {*theirs.backend, theirs.model},
                                       prepare(theirs.files, want.engine, inputs, items));
  verify::find_suspects(layers, ours.model.precision, theirs.model.precision);
  return layers;
}

void print_layers(const std::vector<verify::LayerError>& layers, Console& console) {
  if (console.json) {
    for (const auto& l : layers) {
      Json line{{"what", l.kind == "block" ? "block" : "layer"},
                {"layer", l.layer},
                {"kind", l.kind},
                {"relative_error", l.relative_error},
                {"cosine", l.cosine}};
      if (l.kind != "block") {
        line["gain"] = l.gain;
        line["worst_channel"] = l.worst_channel, line["worst_channel_error"] = l.worst_channel_error;
        line["suspect"] = !l.suspicion.empty();
        if (!l.suspicion.empty()) line["why"] = l.suspicion;
      }
      console.print(line.dump() + "\n");
    }
    return;
  }
  std::ostringstream out;
  out << std::scientific << std::setprecision(2);
  for (const bool blocks : {false, true}) {
    out << (blocks ? "\nblocks, each after all before it   error     1 - cosine\n"
                   : "\nlayers, each for itself            error     1 - cosine   worst channel\n");
    for (const auto& l : layers) {
      if ((l.kind == "block") != blocks) continue;
      out << std::left << std::setw(35) << l.layer << std::right << l.relative_error << "  "
          << std::max(0.0, 1 - l.cosine);
      if (!blocks) out << "     " << l.worst_channel_error << " (" << l.worst_channel << ')';
      if (!l.suspicion.empty()) out << "  SUSPECT: " << l.suspicion;
      out << '\n';
    }
  }
  console.print(out.str());
}

std::string suspects_text(const std::vector<verify::LayerError>& layers) {
  std::string text;
  for (const auto& l : layers) {
    if (!l.suspicion.empty()) text += cat(text.empty() ? "" : ", ", l.layer, " (", l.suspicion, ")");
  }
  return text;
}

}  // namespace tandem::cli
