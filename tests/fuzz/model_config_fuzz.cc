// A model's JSON files from a stranger: the first byte chooses the reader. A configuration comes back whose sizes fit
// each other, or an Error is thrown.
#include <cstdint>
#include <string_view>

#include "model/readers.h"
#include "model/weights.h"
#include "tandem/error.h"

namespace {

void check(const tandem::model::Config& config) {
  for (const tandem::model::TowerConfig* t : {static_cast<const tandem::model::TowerConfig*>(&config.vision),
                                              static_cast<const tandem::model::TowerConfig*>(&config.text)}) {
    if (t->width < 1 || t->heads < 1 || t->head_dim * t->heads != t->width || t->layers < 1 || t->mlp < 1)
      __builtin_trap();
  }
  if (config.embed_dim < 1 || config.vision.grid() < 1) __builtin_trap();
  for (const auto& spec : weight_table(config)) {
    if (spec.shape.elements() < 1) __builtin_trap();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tandem::model;
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    const Json json = parse_json_object(text, "fuzz.json");
    switch (data[0] % 3) {
      case 0: check(read_huggingface_config(json, "config.json")); break;
      case 1: check(read_openclip_config(json, "open_clip_config.json")); break;
      case 2: {
        const PreprocessConfig p = read_preprocess_config(json, "preprocessor_config.json", 224);
        if (p.fit.do_center_crop && (p.fit.crop_height != 224 || p.fit.crop_width != 224)) __builtin_trap();
        break;
      }
    }
  } catch (const tandem::Error&) {
  }
  return 0;
}
