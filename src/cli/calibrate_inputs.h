// What `calibrate` computes: pictures and texts as the towers read them.
#pragma once

#include <string>

#include "calibration/passes.h"
#include "cli/common.h"
#include "cli/signals.h"
#include "engine/preparer.h"

namespace tandem::cli {

struct CalibrationData {
  std::string data;   ///< a folder, a .tar, emoji or random; empty: emoji for the demo model, random for others
  std::string texts;  ///< a file; empty: what the data says of its pictures, else the demo's names, else random ids
  embed::TextFormat text_format = embed::TextFormat::automatic;
  int samples = 512, seed = 1;
};

struct CalibrationInputs {
  calibration::Inputs inputs;
  std::string description;  ///< of where they come from, for the file
};

/// Reads and prepares all of it; what cannot be prepared is said and left out. Empty where it was interrupted. Throws
/// not_found, bad_data where there is nothing to read, or nothing that can be prepared.
CalibrationInputs calibration_inputs(const model::ModelFiles& files, const EngineOptions& options,
                                     const CalibrationData& data, const StopScope& stop, Console& console);

}  // namespace tandem::cli
