// tandem info: what a model is, without reading its weights.
#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "cli/commands.h"
#include "embed/json_text.h"
#include "engine/backends.h"
#include "model/weights.h"
#include "tandem/version.h"

namespace tandem::cli {
namespace {

using Json = nlohmann::ordered_json;

const char* name_of(backend::ActivationFn activation) {
  switch (activation) {
    case backend::ActivationFn::none: return "none";
    case backend::ActivationFn::quick_gelu: return "quick_gelu";
    case backend::ActivationFn::gelu_erf: return "gelu";
    case backend::ActivationFn::gelu_tanh: return "gelu_tanh";
  }
  return "unknown";
}

const char* name_of(model::Pooling pooling) {
  switch (pooling) {
    case model::Pooling::cls: return "cls";
    case model::Pooling::eot: return "eot";
    case model::Pooling::last: return "last";
    case model::Pooling::mean: return "mean";
    case model::Pooling::map: return "map";
  }
  return "unknown";
}

// The decimal that a file would say: 1e-05, not the nearest double of the nearest float.
double shortest(float value) {
  std::string digits;
  embed::append_json(digits, value);
  return std::stod(digits);
}

Json shortest(const float (&values)[3]) {
  return {shortest(values[0]), shortest(values[1]), shortest(values[2])};
}

Json describe(const model::TowerConfig& tower) {
  return {{"width", tower.width},
          {"layers", tower.layers},
          {"heads", tower.heads},
          {"head_dim", tower.head_dim},
          {"mlp", tower.mlp},
          {"activation", name_of(tower.activation)},
          {"norm_eps", shortest(tower.norm_eps)}};
}

Json describe(const model::VisionConfig& vision) {
  Json out = describe(static_cast<const model::TowerConfig&>(vision));
  out["image_size"] = vision.image_size;
  out["patch_size"] = vision.patch;
  out["tokens"] = vision.tokens();
  out["pooling"] = name_of(vision.pooling);
  return out;
}

Json describe(const model::TextConfig& text) {
  Json out = describe(static_cast<const model::TowerConfig&>(text));
  out["vocab_size"] = text.vocab_size;
  out["context_length"] = text.context_length;
  out["pooling"] = name_of(text.pooling);
  out["mask"] = text.mask == model::TextMask::causal ? "causal" : "full";
  out["start_id"] = text.start_id;
  out["end_id"] = text.end_id;
  return out;
}

Json describe_preprocess(const model::ModelFiles& files, const EngineOptions& options) {
  const auto& p = files.config.preprocess;
  const auto& fit = p.fit;
  const Reference reference = options.reference == Reference::automatic ? files.reference : options.reference;
  const Cleaning cleaning = options.cleaning == Cleaning::automatic ? files.cleaning : options.cleaning;
  Json resize = nullptr, crop = nullptr;
  if (fit.do_resize) {
    resize = {{"mode", fit.mode == image::FitOptions::ResizeMode::shortest_edge ? "shortest_edge" : "exact"},
              {"height", fit.resize_height},
              {"width", fit.resize_width},
              {"resample", fit.resample == image::Resample::bicubic ? "bicubic" : "bilinear"}};
  }
  if (fit.do_center_crop) crop = {{"height", fit.crop_height}, {"width", fit.crop_width}};
  return {{"reference", to_string(reference)},
          {"exif", to_string(options.exif)},
          {"cleaning", to_string(cleaning)},
          {"resize", resize},
          {"crop", crop},
          {"mean", shortest(p.mean)},
          {"std", shortest(p.std)},
          {"rescale", shortest(p.rescale)}};
}

std::size_t count_parameters(const model::Config& config) {
  std::size_t count = 0;
  for (const auto& spec : model::weight_table(config)) {
    if (!spec.optional) count += static_cast<std::size_t>(spec.shape.elements());
  }
  return count;
}

// Bytes of the tensors in the checkpoint, from its headers; random weights are float32. Null without weights.
Json count_bytes(const model::ModelFiles& files, std::size_t parameters) {
  if (files.config.layout == "random") return parameters * sizeof(float);
  try {
    const auto source = files.open_weights();
    std::size_t bytes = 0;
    for (const auto& name : source->names()) {
      if (const auto info = source->find(name)) {
        bytes += static_cast<std::size_t>(info->shape.elements()) * size_of(info->dtype);
      }
    }
    return bytes;
  } catch (const Error& e) {
    if (e.code() == Code::not_found) return nullptr;
    throw;
  }
}

Json describe_devices(const ContextOptions& context) {
  Json out = Json::array();
  for (const auto& device : engine::available_devices()) {
    const auto backend = engine::make_backend(parse_device(device), context);
    out.push_back({{"device", device}, {"name", backend->device_name()}, {"isa", backend->isa()}});
  }
  return out;
}

std::string dump(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

void print_for_people(const Json& info, Console& console) {
  const auto tower = [&](const char* name) {
    const Json& t = info["architecture"][name];
    return cat(dump(t["layers"]), " layers, width ", dump(t["width"]), ", ", dump(t["heads"]), " heads, ",
               t["activation"].get<std::string>());
  };
  const Json& vision = info["architecture"]["vision"];
  const Json& text = info["architecture"]["text"];
  const Json& p = info["preprocess"];
  console.print(
      cat("model         ", info["model"].get<std::string>(), " (", info["layout"].get<std::string>(), ")\n"));
  console.print(cat("vision        ", tower("vision"), ", ", dump(vision["image_size"]), " px in patches of ",
                    dump(vision["patch_size"]), "\n"));
  console.print(cat("text          ", tower("text"), ", ", dump(text["context_length"]), " tokens of ",
                    dump(text["vocab_size"]), "\n"));
  console.print(cat("joint space   ", dump(info["architecture"]["embed_dim"]), " dimensions\n"));
  console.print(cat("parameters    ", dump(info["parameters"]), "\n"));
  if (info["bytes"].is_null()) {
    console.print("weights       none in this folder\n");
  } else {
    console.print(cat("weights       ", dump(info["bytes"]), " bytes\n"));
  }
  console.print(cat("preprocessing reference ", p["reference"].get<std::string>(), ", exif ",
                    p["exif"].get<std::string>(), ", cleaning ", p["cleaning"].get<std::string>(), "\n"));
  for (const auto& d : info["devices"]) {
    console.print(cat("device        ", d["device"].get<std::string>(), ": ", d["name"].get<std::string>(), ", ",
                      d["isa"].get<std::string>(), "\n"));
  }
}

int run(const CommonOptions& common, Console& console) {
  const model::ModelFiles files = open_model(common);
  const model::Config& c = files.config;
  const std::size_t parameters = count_parameters(c);
  const Json devices = describe_devices(common.context);
  Json info = {{"model", c.name},
               {"layout", c.layout},
               {"folder", files.folder.empty() ? Json(nullptr) : Json(files.folder.string())},
               {"architecture",
                {{"name", c.architecture},
                 {"vision", describe(c.vision)},
                 {"text", describe(c.text)},
                 {"embed_dim", c.embed_dim}}},
               {"parameters", parameters},
               {"bytes", count_bytes(files, parameters)},
               {"preprocess", describe_preprocess(files, common.engine)},
               {"tokenizer", files.tokenizer.empty() ? Json(nullptr) : Json(files.tokenizer.string())},
               {"knows_photographs", files.knows_photographs},
               {"devices", devices},
               {"isa", devices.empty() ? Json("") : devices[0]["isa"]}};
  if (console.json) {
    console.print(dump(info) + "\n");
  } else {
    print_for_people(info, console);
  }
  return kOk;
}

}  // namespace

std::string version_text(bool json) {
  std::vector<std::string> backends = engine::available_devices();
  backends.emplace_back("reference");
  if (json) {
    return dump(Json{{"version", version()}, {"commit", commit()}, {"backends", backends}}) + "\n";
  }
  std::string out = cat("tandem ", version(), " (commit ", commit(), ")\nbackends:");
  for (const auto& name : backends) out += " " + name;
  return out + "\n";
}

Command declare_info(CLI::App& root) {
  CLI::App* app = root.add_subcommand("info", "what a model is: architecture, size, preprocessing; needs no weights");
  auto common = std::make_shared<CommonOptions>();
  declare_common(*app, *common);
  app->footer("Example:\n  tandem info --model openai/clip-vit-base-patch32 --json");
  return {app, common, [common](Console& console) { return run(*common, console); }};
}

}  // namespace tandem::cli
