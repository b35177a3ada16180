#include "model/calibration.h"

#include <cmath>
#include <initializer_list>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "model/json.h"
#include "tandem/error.h"

namespace tandem::model {
namespace {

using Ordered = nlohmann::ordered_json;

constexpr const char* kFormat = "tandem-calibration";
constexpr int kVersion = 1;
constexpr const char* kRanges[] = {"row", "abs-max", "p99.99", "p99.9", "mse"};

void refuse_unknown(const Fields& fields) {
  const auto unknown = fields.unknown();
  if (!unknown.empty()) {
    throw Error(Code::bad_data, cat(fields.name(printable(unknown.front())), " is no field of a calibration"));
  }
}

double bounded(const Fields& fields, const char* key, double fallback, double least, double most) {
  const double value = fields.number(key, fallback);
  if (!(value >= least && value <= most)) {
    throw Error(Code::bad_data, cat(fields.name(key), " is ", value, "; expected a number from ", least, " to ", most));
  }
  return value;
}

/// A positive step or factor that a float holds exactly enough.
float positive(const std::string& name, const Json& value) {
  const double number = value.is_number() ? value.get<double>() : 0;
  if (!(number >= 1e-30 && number <= 1e30)) {
    throw Error(Code::bad_data, cat(name, " is ", show(value), "; expected a number from 1e-30 to 1e30"));
  }
  return static_cast<float>(number);
}

/// A number that a float holds.
float finite(const std::string& name, const Json& value) {
  const double number = value.is_number() ? value.get<double>() : NAN;
  if (!(std::abs(number) <= 1e30)) {
    throw Error(Code::bad_data, cat(name, " is ", show(value), "; expected a number from -1e30 to 1e30"));
  }
  return static_cast<float>(number);
}

CalibratedLayer read_layer(const Fields& fields) {
  CalibratedLayer layer;
  layer.choice.keep = fields.boolean("keep", false);
  if (const Json* scale = fields.find("input_scale")) {
    layer.choice.input_scale = positive(fields.name("input_scale"), *scale);
  }
  if (const Json* factors = fields.find("migration")) {
    if (!factors->is_array() || factors->empty()) fields.reject("migration", *factors, "a list of factors");
    for (std::size_t i = 0; i < factors->size(); ++i) {
      layer.choice.migration.push_back(positive(cat(fields.name("migration"), "[", i, "]"), (*factors)[i]));
    }
  }
  if (const Json* averages = fields.find("centre")) {
    if (!averages->is_array() || averages->empty()) fields.reject("centre", *averages, "a list of averages");
    for (std::size_t i = 0; i < averages->size(); ++i) {
      layer.choice.centre.push_back(finite(cat(fields.name("centre"), "[", i, "]"), (*averages)[i]));
    }
  }
  layer.rounded = fields.boolean("rounded", false);
  layer.range = fields.text("range", "row");
  bool known = false;
  for (const char* range : kRanges) known = known || layer.range == range;
  if (!known) fields.reject("range", *fields.find("range"), "row, abs-max, p99.99, p99.9 or mse");
  layer.error = bounded(fields, "error", 0, 0, 1e30);
  refuse_unknown(fields);
  return layer;
}

CalibratedAccuracy read_accuracy(const Fields& fields) {
  CalibratedAccuracy a;
  a.items = fields.integer("items", 0, 0, std::numeric_limits<int>::max());
  a.mean_cosine = bounded(fields, "mean_cosine", 1, -1.001, 1.001);
  a.min_cosine = bounded(fields, "min_cosine", 1, -1.001, 1.001);
  refuse_unknown(fields);
  return a;
}

Ordered accuracy_json(const CalibratedAccuracy& a) {
  return {{"items", a.items}, {"mean_cosine", a.mean_cosine}, {"min_cosine", a.min_cosine}};
}

Ordered one_precision(const Calibration& c) {
  Ordered layers = Ordered::object();
  for (const auto& [name, layer] : c.layers) {
    Ordered& to = layers[name] = Ordered::object();
    if (layer.choice.keep) to["keep"] = true;
    if (layer.choice.input_scale > 0) to["input_scale"] = layer.choice.input_scale;
    if (layer.rounded) to["rounded"] = true;
    to["range"] = layer.range, to["error"] = layer.error;
    if (!layer.choice.migration.empty()) to["migration"] = layer.choice.migration;
    if (!layer.choice.centre.empty()) to["centre"] = layer.choice.centre;
  }
  Ordered out{{"data", c.data},
              {"against", c.against},
              {"reached", c.reached},
              {"eight_bit_share", c.eight_bit_share},
              {"images", accuracy_json(c.images)},
              {"texts", accuracy_json(c.texts)},
              {"plain_images", accuracy_json(c.plain_images)},
              {"plain_texts", accuracy_json(c.plain_texts)}};
  if (!c.weights_file.empty()) out["weights"] = {{"file", c.weights_file}, {"hash", c.weights_hash}};
  out["layers"] = layers;
  return out;
}

}  // namespace

EightBit Calibration::choices(const Config& config, bool keep) const {
  EightBit out;
  for (const auto& [name, layer] : layers) {
    LayerChoice choice = layer.choice;
    choice.keep = choice.keep && keep;
    if (layer.rounded && !choice.rounded) throw Error(Code::internal, cat("the weight of ", name, " was not taken"));
    out.set(config, name, std::move(choice));
  }
  return out;
}

std::vector<std::string> Calibration::rounded_layers() const {
  std::vector<std::string> out;
  for (const auto& [name, layer] : layers) {
    if (layer.rounded) out.push_back(name);
  }
  return out;
}

void Calibration::take_weights(std::span<const std::byte> bytes, const std::shared_ptr<const void>& memory,
                               const std::string& where, const Config& config) {
  const std::string hash = rounded_hash(bytes);
  if (hash != weights_hash) {
    throw Error(Code::bad_data, cat(where, " has the hash ", hash, ", and its calibration names ", weights_hash,
                                    ": it is damaged, or of another calibration; run `tandem calibrate` again"));
  }
  for (auto& [name, weight] : read_rounded(bytes, memory, where, config, precision, rounded_layers())) {
    layers.at(name).choice.rounded = std::move(weight);
  }
}

std::string weights_file_of(std::string_view calibration, Precision precision) {
  constexpr std::string_view kEnd = ".json";
  if (calibration.ends_with(kEnd)) calibration.remove_suffix(kEnd.size());
  return cat(calibration, '.', to_string(precision), ".safetensors");
}

std::string calibration_text(const Calibration& calibration, std::string_view old) {
  Ordered precisions = Ordered::object();
  if (!old.empty()) {
    const Ordered before = Ordered::parse(old, nullptr, false);
    if (before.is_object() && before.value("format", Ordered()) == kFormat &&
        before.value("version", Ordered()) == kVersion &&
        before.value("model_hash", Ordered()) == calibration.model_hash &&
        before.value("precisions", Ordered()).is_object()) {
      precisions = before["precisions"];
    }
  }
  precisions[std::string(to_string(calibration.precision))] = one_precision(calibration);
  // In the order of their names, whichever was calibrated first.
  Ordered sorted = Ordered::object();
  for (const char* name : {"fp8", "int8"}) {
    if (precisions.contains(name)) sorted[name] = precisions[name];
  }
  const Ordered whole{{"format", kFormat},
                      {"version", kVersion},
                      {"model_hash", calibration.model_hash},
                      {"architecture", calibration.architecture},
                      {"precisions", sorted}};
  return whole.dump(1, ' ', false, Ordered::error_handler_t::replace) + "\n";
}

std::optional<Calibration> parse_calibration(std::string_view text, const std::string& where, const Config& config,
                                             const std::string& hash, Precision precision) {
  const Json json = parse_json_object(text, where);
  const Fields fields(json, where);
  if (fields.text("format", "") != kFormat) {
    throw Error(Code::bad_data,
                cat(fields.name("format"), " is not \"", kFormat, "\": this is no file of `tandem calibrate`"));
  }
  const int version = fields.integer("version", 0, 0, std::numeric_limits<int>::max());
  if (version != kVersion) {
    throw Error(Code::bad_data, cat(fields.name("version"), " is ", version, ", and this program reads ", kVersion,
                                    ": run `tandem calibrate` again"));
  }
  Calibration c;
  c.model_hash = fields.text("model_hash", ""), c.architecture = fields.text("architecture", "");
  if (c.model_hash != hash) {
    throw Error(
        Code::bad_data,
        cat(fields.name("model_hash"), " is ", printable(c.model_hash), ", and that of ", config.name, " is ", hash,
            ": the file was made for another model, or other weights; run `tandem calibrate` again, or "
            "give --calibration none"));
  }
  c.precision = precision;
  const std::string name(to_string(precision));
  const Fields precisions = fields.object("precisions");
  precisions.ignore({"int8", "fp8"});
  refuse_unknown(precisions);
  refuse_unknown(fields);
  if (!precisions.has(name)) return std::nullopt;
  const Fields one = precisions.object(name);
  c.data = one.text("data", ""), c.against = one.text("against", "");
  c.reached = one.boolean("reached", true);
  c.eight_bit_share = bounded(one, "eight_bit_share", 1, 0, 1);
  c.images = read_accuracy(one.object("images")), c.texts = read_accuracy(one.object("texts"));
  c.plain_images = read_accuracy(one.object("plain_images")), c.plain_texts = read_accuracy(one.object("plain_texts"));
  const Fields weights = one.object("weights");
  c.weights_file = weights.text("file", ""), c.weights_hash = weights.text("hash", "");
  refuse_unknown(weights);
  if (c.weights_file.find_first_of(std::string_view("/\0", 2)) != std::string::npos || c.weights_file == "." ||
      c.weights_file == "..") {
    throw Error(Code::bad_data,
                cat(weights.name("file"), " is ", printable(c.weights_file), "; expected a name beside this file"));
  }
  const Fields layers = one.object("layers");
  refuse_unknown(one);
  EightBit checked;
  if (const Json* all = one.find("layers")) {
    for (const auto& [layer, value] : all->items()) {
      if (!value.is_object()) layers.reject(layer, value, "an object");
      CalibratedLayer read = read_layer(layers.object(layer));
      // One after another, so that the message names the one that is wrong.
      const auto check = [&](const std::string& field, const LayerChoice& part) {
        try {
          checked.set(config, layer, part);
        } catch (const Error& e) {
          throw Error(Code::bad_data, cat(layers.name(printable(layer)), field, ": ", e.what()));
        }
      };
      check("", {});
      check(".migration", {.migration = read.choice.migration});
      check(".centre", {.centre = read.choice.centre});
      c.layers.emplace(layer, std::move(read));
    }
  }
  if (c.rounded_layers().empty() != c.weights_file.empty()) {
    throw Error(Code::bad_data, cat(weights.name("file"), c.weights_file.empty() ? " is missing" : " is named",
                                    ", and layers are ", c.weights_file.empty() ? "" : "not ", "rounded"));
  }
  return c;
}

}  // namespace tandem::model
