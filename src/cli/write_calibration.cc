#include "cli/write_calibration.h"

#include <unistd.h>

#include <fstream>
#include <iterator>
#include <system_error>

#include "base/mapped_file.h"
#include "base/strings.h"
#include "embed/output_file.h"
#include "embed/safetensors_writer.h"
#include "engine/find_calibration.h"

namespace tandem::cli {
namespace {

namespace fs = std::filesystem;

void write_weights(const model::Calibration& c, const fs::path& file) {
  const auto layers = c.rounded_layers();
  std::size_t room = 0;
  for (const std::string& layer : layers) {
    room += embed::SafetensorsWriter::entry_room(layer + ".codes", 2);
    room += embed::SafetensorsWriter::entry_room(layer + ".steps", 1);
  }
  embed::SafetensorsWriter out(file.string(),
                               {{"format", "tandem-calibration"},
                                {"model_hash", c.model_hash},
                                {"precision", std::string(to_string(c.precision))}},
                               room);
  for (const std::string& layer : layers) {
    const model::RoundedWeight& weight = *c.layers.at(layer).choice.rounded;
    const auto rows = static_cast<std::uint64_t>(weight.codes.rows());
    out.append({weight.codes.data, weight.codes.bytes()});
    out.describe(layer + ".codes", to_string(weight.codes.dtype),
                 {rows, static_cast<std::uint64_t>(weight.codes.columns())});
    out.append(std::as_bytes(std::span(weight.steps)));
    out.describe(layer + ".steps", "F32", {rows});
  }
  out.close();
  out.commit();
}

}  // namespace

fs::path calibration_destination(const std::string& output, const model::ModelFiles& files, const std::string& hash) {
  std::error_code error;
  if (!output.empty()) return fs::is_directory(output, error) ? fs::path(output) / (hash + ".json") : fs::path(output);
  const fs::path beside = files.folder / model::kCalibrationFile, cached = engine::cached_calibration(hash);
  if (!files.folder.empty() && ::access(files.folder.c_str(), W_OK) == 0 &&
      (!fs::exists(beside, error) || ::access(beside.c_str(), W_OK) == 0)) {
    return beside;
  }
  fs::create_directories(cached.parent_path(), error);
  if (error) {
    throw Error(Code::io_error, cat("cannot make the folder ", cached.parent_path().string(), ": ", error.message(),
                                    "; name a file with --output"));
  }
  return cached;
}

void write_calibration(model::Calibration& found, const fs::path& file) {
  std::string earlier;
  {
    std::ifstream in(file, std::ios::binary);
    earlier.assign(std::istreambuf_iterator<char>(in), {});
  }
  const std::string name = model::weights_file_of(file.filename().string(), found.precision);
  const fs::path weights = file.parent_path() / name;
  found.weights_file.clear(), found.weights_hash.clear();
  if (!found.rounded_layers().empty()) {
    write_weights(found, weights);
    found.weights_file = name, found.weights_hash = model::rounded_hash(MappedFile(weights).bytes());
  }
  embed::OutputFile out(file.string());
  out.append(model::calibration_text(found, earlier));
  out.commit();
  std::error_code ignored;
  if (found.weights_file.empty()) fs::remove(weights, ignored);
}

}  // namespace tandem::cli
