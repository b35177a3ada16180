#include "calibration/layer_map.h"

#include <string_view>

#include "base/strings.h"

namespace tandem::calibration {
namespace {

using Map = std::map<const backend::PreparedWeight*, Product>;

void add_blocks(Map& map, const char* tower, const model::BlockStore& blocks, backend::Backend& backend) {
  for (int i = 0; i < blocks.count(); ++i) {
    const model::HeldBlock held(blocks, i, backend);
    const model::BlockWeights& w = *held;
    const auto add = [&](const char* layer, const char* part, const model::Linear& linear, const model::Norm* norm) {
      if (linear.weight) map[linear.weight.get()] = {cat(tower, ".blocks.", i, '.', layer), part, &linear, norm};
    };
    add("qkv", "qkv", w.qkv, &w.ln_1), add("qkv", "q", w.q, &w.ln_1), add("qkv", "kv", w.kv, &w.ln_1);
    add("out", "out", w.out, nullptr), add("fc1", "fc1", w.fc1, &w.ln_2), add("fc2", "fc2", w.fc2, nullptr);
  }
}

}  // namespace

std::string layer_of(const std::string& tensor) {
  constexpr std::string_view kEnd = ".weight";
  if (tensor.find(".blocks.") == std::string::npos || !tensor.ends_with(kEnd)) return {};
  const std::string name = tensor.substr(0, tensor.size() - kEnd.size());
  for (const char* part : {".attn.qkv", ".attn.out", ".mlp.fc1", ".mlp.fc2"}) {
    if (name.ends_with(part)) {
      const std::size_t last = name.rfind('.'), before = name.rfind('.', last - 1);
      return name.substr(0, before) + name.substr(last);
    }
  }
  return {};
}

Map products_of(const model::Model& model, backend::Backend& backend) {
  Map map;
  if (model.vision) add_blocks(map, "vision", *model.vision->blocks, backend);
  if (model.text) add_blocks(map, "text", *model.text->blocks, backend);
  return map;
}

}  // namespace tandem::calibration
