// Named settings: what most people want, without naming a precision, a batch and caches one by one.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/flags.h"
#include "tandem/engine.h"

namespace tandem::cli {

/// What a mode sets; what it leaves alone keeps its own default.
struct ModeSettings {
  std::optional<DeviceId> device;
  Precision precision = Precision::automatic;
  int max_batch = 0;                                            ///< 0: chosen
  int delay_us = -1;                                            ///< of a server, for more items; -1: its default
  int text_cache = -1, image_cache = -1, image_cache_mib = -1;  ///< of a server; -1: their defaults
  /// As flags of `tandem serve`: "--precision bf16 --max-batch 64".
  std::string flags() const;
};

struct Mode {
  std::string_view name, help;
};
/// default, fast, accurate, lite, cpu, batch.
const std::vector<Mode>& modes();

/// What a mode means on a device (automatic: the best one): of the precisions that suit the mode, the first that the
/// device computes. Throws invalid_argument naming the modes, and what making a backend throws.
ModeSettings mode_settings(std::string_view mode, DeviceId device, const ContextOptions& context);

/// --mode, whose settings give way to flags (and variables) that are given themselves.
class ModeFlag {
 public:
  void declare(CLI::App& app);
  /// Sets precision and device, where they were not given, and returns the rest; none where no mode was given.
  std::optional<ModeSettings> apply(EngineOptions& engine, const ContextOptions& context) const;
  /// Whether a flag, or its variable, was given.
  bool given(const std::string& flag) const;

 private:
  CLI::App* app_ = nullptr;
  std::string name_;
};

}  // namespace tandem::cli
