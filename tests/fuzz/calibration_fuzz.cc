// A calibration from a stranger, or the weights beside one: choices that a loader of the model accepts, or an Error.
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "model/calibration.h"
#include "model/rounded_weight.h"
#include "tandem/error.h"
#include "unit/model/small_model.h"

namespace {

using namespace tandem;

void read_weights(std::string_view bytes, const model::Config& config) {
  for (const Precision p : {Precision::int8, Precision::fp8}) {
    try {
      const auto read = model::read_rounded(std::as_bytes(std::span(bytes)), nullptr, "fuzz.safetensors", config, p,
                                            {"text.blocks.1.out"});
      const Tensor values = model::values_of(*read.at("text.blocks.1.out"));
      for (std::int64_t i = 0; i < values.shape().elements(); ++i) {
        if (!std::isfinite(values.view().as<float>()[i])) __builtin_trap();
      }
    } catch (const Error& e) {
      if (e.code() != Code::bad_data) __builtin_trap();
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const model::Config config = model::test::small_config();
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (!text.starts_with('{')) {
    read_weights(text, config);
    return 0;
  }
  try {
    const auto read = model::parse_calibration(text, "fuzz.json", config, "00112233aabbccdd", Precision::int8);
    if (!read) return 0;
    if (read->weights_file.find('/') != std::string::npos) __builtin_trap();
    if (!read->rounded_layers().empty()) return 0;  // without their weights there are no choices
    for (const auto& [layer, choice] : read->choices(config, true).all()) {
      if (!std::isfinite(choice.input_scale) || choice.input_scale < 0) __builtin_trap();
      for (const float f : choice.migration) {
        if (!std::isfinite(f) || f <= 0) __builtin_trap();
      }
    }
    const std::string again = model::calibration_text(*read, text);
    if (!model::parse_calibration(again, "again", config, "00112233aabbccdd", Precision::int8)) __builtin_trap();
  } catch (const Error& e) {
    if (e.code() != Code::bad_data) __builtin_trap();
  }
  return 0;
}
