// A calibration from a stranger: choices that a loader of the model accepts, or an Error.
#include <cmath>
#include <cstdint>
#include <string_view>

#include "model/calibration.h"
#include "tandem/error.h"
#include "unit/model/small_model.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tandem;
  static const model::Config config = model::test::small_config();
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const auto read = model::parse_calibration(text, "fuzz.json", config, "00112233aabbccdd", Precision::int8);
    if (!read) return 0;
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
