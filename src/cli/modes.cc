#include "cli/modes.h"

#include <algorithm>

#include "base/strings.h"
#include "cli/console.h"
#include "engine/backends.h"

namespace tandem::cli {
namespace {

using enum Precision;

std::string names() {
  std::string text;
  for (const Mode& mode : modes()) text += cat(text.empty() ? "" : ", ", mode.name);
  return text;
}

void check_name(std::string_view name) {
  const auto same = [&](const Mode& mode) { return mode.name == name; };
  if (std::none_of(modes().begin(), modes().end(), same)) {
    throw UsageError(cat("mode '", name, "' is unknown: choose one of ", names()));
  }
}

/// The first of several precisions that a device computes.
Precision first_of(std::initializer_list<Precision> wanted, const backend::Backend& backend) {
  for (const Precision precision : wanted) {
    try {
      return backend.resolve(precision);
    } catch (const Error&) {
      continue;  // the next one
    }
  }
  return backend.resolve(automatic);
}

}  // namespace

const std::vector<Mode>& modes() {
  static const std::vector<Mode> kModes{
      {"default", "nothing set: the device's own precision, fp32 on a processor"},
      {"fast", "shortest answers: int8, on a GPU fp8, else sixteen bits; a pass waits for nobody"},
      {"accurate", "fp32 throughout"},
      {"lite", "least memory: eight bits, small passes, small caches"},
      {"cpu", "the processor, in bf16 where it has that"},
      {"batch", "most items a second: sixteen bits, large passes that wait for more"},
  };
  return kModes;
}

std::string ModeSettings::flags() const {
  std::string text;
  const auto add = [&](const char* flag, const auto& value) { text += cat(text.empty() ? "" : " ", flag, ' ', value); };
  if (device) add("--device", to_string(*device));
  if (precision != automatic) add("--precision", to_string(precision));
  if (max_batch > 0) add("--max-batch", max_batch);
  if (delay_us >= 0) add("--max-delay-us", delay_us);
  if (text_cache >= 0) add("--text-cache", text_cache);
  if (image_cache >= 0) add("--image-cache", image_cache);
  if (image_cache_mib >= 0) add("--image-cache-mib", image_cache_mib);
  return text;
}

ModeSettings mode_settings(std::string_view mode, DeviceId device, const ContextOptions& context) {
  check_name(mode);
  ModeSettings s;
  if (mode == "default") return s;
  if (mode == "cpu") s.device = device = DeviceId{DeviceId::Kind::cpu, 0};
  const auto backend = engine::make_backend(device, context);
  const bool gpu = backend->stream() != nullptr;
  if (mode == "fast") {
    // A GPU's int8 is for many rows: of few it waits for three kernels a layer.
    s.precision = gpu ? first_of({fp8, fp16}, *backend) : first_of({int8, bf16}, *backend);
    s.delay_us = 0;
  } else if (mode == "accurate") {
    s.precision = fp32;
  } else if (mode == "lite") {
    s.precision = first_of({fp8, int8, fp16, bf16}, *backend);
    s.max_batch = 8, s.text_cache = 1000, s.image_cache = 0, s.image_cache_mib = 4;
  } else if (mode == "cpu") {
    s.precision = first_of({bf16}, *backend);
  } else {
    s.precision = first_of({fp16, bf16}, *backend);
    s.max_batch = gpu ? 256 : 32, s.delay_us = 10'000;
  }
  return s;
}

void ModeFlag::declare(CLI::App& app) {
  app_ = &app;
  std::string help = "named settings, to which other flags add:";
  for (const Mode& mode : modes()) help += cat("\n", mode.name, ": ", mode.help);
  Flags(app).single(
      "--mode",
      [this](const std::string& word) {
        check_name(word);
        name_ = word;
      },
      help);
}

bool ModeFlag::given(const std::string& flag) const {
  const CLI::Option* option = app_->get_option_no_throw(flag);
  return option != nullptr && option->count() > 0;
}

std::optional<ModeSettings> ModeFlag::apply(EngineOptions& engine, const ContextOptions& context) const {
  if (name_.empty()) return std::nullopt;
  ModeSettings s = mode_settings(name_, engine.device, context);
  if (given("--device")) {
    if (s.device && engine.device.kind != s.device->kind) {
      // The flag wins, and with it what that device computes best in; a processor's mode says nothing about a GPU.
      s.precision = Precision::automatic;
    }
  } else if (s.device) {
    engine.device = *s.device;
    engine.devices.clear();
  }
  if (!given("--precision")) engine.precision = s.precision;
  return s;
}

}  // namespace tandem::cli
