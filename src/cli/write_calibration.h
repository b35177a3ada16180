// Where a calibration goes, and its files.
#pragma once

#include <filesystem>
#include <string>

#include "model/calibration.h"
#include "model/files.h"

namespace tandem::cli {

/// `output`, where it is not empty, and where it is a folder a file in it named after the weights' hash; else beside
/// the model where that can be written, else the cache folder, which is made. Throws io_error.
std::filesystem::path calibration_destination(const std::string& output, const model::ModelFiles& files,
                                              const std::string& hash);

/// Writes the calibration to `file`, beside what it already holds for other precisions of the model, and the rounded
/// weights next to it; each appears whole, the weights first. Weights of this precision that an earlier calibration
/// left there are removed where this one has none. Throws io_error.
void write_calibration(model::Calibration& found, const std::filesystem::path& file);

}  // namespace tandem::cli
