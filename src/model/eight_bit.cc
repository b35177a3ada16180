#include "model/eight_bit.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "base/strings.h"
#include "tandem/error.h"

namespace tandem::model {
namespace {

constexpr const char* kLayers[] = {"qkv", "out", "fc1", "fc2"};

[[noreturn]] void refuse(const std::string& message) {
  throw Error(Code::invalid_argument, message);
}

void add_layers(std::vector<std::string>& names, const char* tower, const TowerConfig& c) {
  for (int i = 0; i < c.layers; ++i) {
    for (const char* layer : kLayers) names.push_back(cat(tower, ".blocks.", i, ".", layer));
  }
}

}  // namespace

std::vector<std::string> eight_bit_layers(const Config& config) {
  std::vector<std::string> names;
  add_layers(names, "vision", config.vision);
  add_layers(names, "text", config.text);
  return names;
}

bool matches(std::string_view pattern, std::string_view name) noexcept {
  // A mismatch goes back to the latest star, which then stands for one character more.
  std::size_t p = 0, n = 0, star = std::string_view::npos, after = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++, after = n;
    } else if (p < pattern.size() && pattern[p] == name[n]) {
      ++p, ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1, n = ++after;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

EightBit::EightBit(const Config& config, const std::vector<std::string>& keep) {
  const auto layers = eight_bit_layers(config);
  std::vector<std::string> patterns;
  for (const std::string& some : keep) {
    for (std::string& one : split_list(some)) patterns.push_back(std::move(one));
  }
  for (const std::string& pattern : patterns) {
    bool known = false;
    for (const std::string& layer : layers) {
      if (!matches(pattern, layer)) continue;
      choices_[layer].keep = known = true;
    }
    if (!known) {
      refuse(cat("\"", printable(pattern), "\" matches no layer of ", config.name, ": name layers like ", layers.back(),
                 ", with * for any characters"));
    }
  }
}

void EightBit::set(const Config& config, const std::string& layer, LayerChoice choice) {
  const auto layers = eight_bit_layers(config);
  if (std::find(layers.begin(), layers.end(), layer) == layers.end()) {
    refuse(cat("\"", printable(layer), "\" is no layer of ", config.name, ": names are like ", layers.back()));
  }
  if (!std::isfinite(choice.input_scale) || choice.input_scale < 0) {
    refuse(cat(layer, ": an input scale of ", choice.input_scale,
               " is no step: give a positive one, or 0 for a scale "
               "per row"));
  }
  const TowerConfig& tower =
      layer.starts_with("vision.") ? static_cast<const TowerConfig&>(config.vision) : config.text;
  for (const std::vector<float>* v : {&choice.migration, &choice.centre}) {
    if (v->empty()) continue;
    const char* what = v == &choice.migration ? "factors" : "averages";
    if (!layer.ends_with("qkv") && !layer.ends_with("fc1")) {
      refuse(cat(layer, " has no norm in front that could take its ", what, ": only qkv and fc1 have"));
    }
    if (v->size() != static_cast<std::size_t>(tower.width)) {
      refuse(cat(layer, " has ", tower.width, " inputs, and ", v->size(), ' ', what, " were given"));
    }
    for (const float f : *v) {
      if (!std::isfinite(f)) refuse(cat(layer, ": one of the ", what, " is ", f, ", and must be finite"));
    }
  }
  for (const float f : choice.migration) {
    if (f <= 0) refuse(cat(layer, ": a factor is ", f, ", and must be positive"));
  }
  if (choice.rounded && choice.rounded->codes.shape != layer_shape(config, layer)) {
    refuse(cat(layer, " has a weight of ", to_string(layer_shape(config, layer)), ", and the rounded one is ",
               to_string(choice.rounded->codes.shape)));
  }
  if (choice == LayerChoice()) {
    choices_.erase(layer);
  } else {
    choices_[layer] = std::move(choice);
  }
}

const LayerChoice& EightBit::of(std::string_view layer) const noexcept {
  static const LayerChoice nothing;
  const auto found = choices_.find(layer);
  return found == choices_.end() ? nothing : found->second;
}

std::string EightBit::key() const {
  std::string out;
  for (const auto& [layer, choice] : choices_) {
    // Hexadecimal floats are exact.
    out += cat(layer, choice.keep ? " kept" : "", std::hexfloat, ' ', choice.input_scale);
    for (const float f : choice.migration) out += cat(std::hexfloat, ' ', f);
    if (!choice.centre.empty()) out += " centre";
    for (const float f : choice.centre) out += cat(std::hexfloat, ' ', f);
    if (choice.rounded) out += cat(" rounded ", choice.rounded->digest);
    out += '\n';
  }
  return out;
}

}  // namespace tandem::model
