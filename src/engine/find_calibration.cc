#include "engine/find_calibration.h"

#include <algorithm>
#include <fstream>
#include <optional>
#include <system_error>

#include "base/mapped_file.h"
#include "base/strings.h"
#include "hub/hub.h"

namespace tandem::engine {
namespace {

namespace fs = std::filesystem;

constexpr std::uintmax_t kMostBytes = std::uintmax_t{256} << 20;  // with factors for every layer of the largest models

std::string read(const fs::path& file) {
  std::error_code error;
  const std::uintmax_t size = fs::file_size(file, error);
  if (error) throw Error(Code::not_found, cat("cannot read the calibration ", file.string(), ": ", error.message()));
  if (size > kMostBytes) {
    throw Error(Code::too_large, cat(file.string(), " has ", size, " bytes; a calibration has at most ", kMostBytes));
  }
  std::ifstream in(file, std::ios::binary);
  std::string text(static_cast<std::size_t>(size), '\0');
  if (!in.read(text.data(), static_cast<std::streamsize>(size))) {
    throw Error(Code::io_error, cat("cannot read the calibration ", file.string()));
  }
  return text;
}

/// A calibration whole: with the rounded weights that it names.
std::optional<model::Calibration> load(const fs::path& file, const model::ModelFiles& files, const std::string& hash,
                                       Precision precision) {
  auto found = model::parse_calibration(read(file), file.string(), files.config, hash, precision);
  if (!found || found->weights_file.empty()) return found;
  const fs::path weights = file.parent_path() / found->weights_file;
  std::error_code error;
  if (!fs::is_regular_file(weights, error)) {
    throw Error(Code::not_found, cat(file.string(), " belongs with ", weights.string(),
                                     ", which is not there: run `tandem calibrate` again, or copy both"));
  }
  const auto mapped = std::make_shared<const MappedFile>(weights);
  found->take_weights(mapped->bytes(), mapped, weights.string(), files.config);
  return found;
}

std::optional<model::Calibration> find(const model::ModelFiles& files, const EngineOptions& o) {
  if (o.calibration == "none") return std::nullopt;
  const std::string hash = files.open_weights()->hash();
  if (!o.calibration.empty()) {
    auto found = load(o.calibration, files, hash, o.precision);
    if (!found) {
      throw Error(Code::bad_data, cat(o.calibration, " holds nothing for ", to_string(o.precision),
                                      ": run `tandem calibrate --precision ", to_string(o.precision), "`"));
    }
    return found;
  }
  for (const fs::path& place : calibration_places(files, hash)) {
    std::error_code error;
    if (!fs::is_regular_file(place, error)) continue;
    if (auto found = load(place, files, hash, o.precision)) return found;
  }
  return std::nullopt;
}

}  // namespace

fs::path cached_calibration(const std::string& hash) {
  return hub::own_cache_folder() / "calibration" / (hash + ".json");
}

std::vector<fs::path> calibration_places(const model::ModelFiles& files, const std::string& hash) {
  std::vector<fs::path> places;
  if (!files.folder.empty()) places.push_back(files.folder / model::kCalibrationFile);
  places.push_back(cached_calibration(hash));
  for (const fs::path& folder : hub::bundled_calibrations()) places.push_back(folder / (hash + ".json"));
  return places;
}

model::EightBit choose_eight_bit(const model::ModelFiles& files, const EngineOptions& o) {
  if (!model::is_eight_bit(o.precision)) {
    if (o.keep.empty() && (o.calibration.empty() || o.calibration == "none")) return {};
    throw Error(Code::invalid_argument,
                cat(o.keep.empty() ? "a calibration is" : "layers are kept back", o.keep.empty() ? " for" : " from",
                    " int8 and fp8 only, and the precision is ", to_string(o.precision),
                    ": give one of the two, or no ", o.keep.empty() ? "calibration" : "layers"));
  }
  std::vector<std::string> patterns;
  for (const std::string& some : o.keep) {
    for (std::string& one : split_list(some)) patterns.push_back(std::move(one));
  }
  const bool named = std::erase(patterns, "auto") > 0, none = std::erase(patterns, "none") > 0;
  if (none && (named || !patterns.empty())) {
    throw Error(Code::invalid_argument,
                "none keeps no layer back, and others are named beside it: give one or the other");
  }
  const auto calibration = find(files, o);
  if (named && !calibration) {
    throw Error(Code::not_found,
                cat("auto keeps back what calibration chose, and ", files.config.name, " has none for ",
                    to_string(o.precision), ": run `tandem calibrate` first, or name layers"));
  }
  model::EightBit chosen;
  // Who names layers means those; who names none takes the calibration's.
  if (calibration) chosen = calibration->choices(files.config, named || o.keep.empty());
  const model::EightBit named_layers(files.config, patterns);
  for (const auto& [layer, choice] : named_layers.all()) {
    model::LayerChoice kept = chosen.of(layer);
    kept.keep = true;
    chosen.set(files.config, layer, std::move(kept));
  }
  return chosen;
}

}  // namespace tandem::engine
