#include "cli/calibrate_inputs.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "base/strings.h"
#include "cli/bench_inputs.h"
#include "cli/progress.h"
#include "hub/demo_names.h"
#include "hub/hub.h"
#include "samples/pictures.h"
#include "tandem/zero_shot.h"

namespace tandem::cli {
namespace {

constexpr std::size_t kTexts = 256;

/// The texts, and where they come from.
std::pair<std::vector<TextInput>, std::string> find_texts(const model::ModelFiles& files, const CalibrationData& data,
                                                          const samples::Pictures& pictures) {
  std::vector<TextInput> texts;
  if (!data.texts.empty()) {
    embed::TextInputs source(data.texts, data.text_format);
    for (embed::Item item; source.next(item);) {
      if (item.error) throw Error(item.error->code, cat(data.texts, ": ", item.error->message));
      texts.emplace_back(item.input);
    }
    if (texts.empty()) throw Error(Code::bad_data, cat(data.texts, " holds no texts: write one a line"));
    return {std::move(texts), std::filesystem::path(data.texts).filename().string()};
  }
  if (files.tokenizer.empty()) {  // any ids are better than none
    std::vector<int> lengths;
    for (int n = 4; n <= std::min(24, files.config.text.context_length); ++n) lengths.push_back(n);
    return {random_texts(kTexts, lengths, files.config.text), "random ids"};
  }
  std::vector<std::string> names = pictures.labels();
  const bool labels = !names.empty();
  if (!labels) names = hub::read_demo_names(hub::bundled_models() / "emoji").names;
  const std::string form = files.knows_photographs ? kPhotoTemplate : "{}";
  for (const std::size_t i : samples::evenly(names.size(), kTexts)) texts.emplace_back(fill_template(form, names[i]));
  return {std::move(texts), labels ? "the pictures' labels" : "names of emoji"};
}

}  // namespace

CalibrationInputs calibration_inputs(const model::ModelFiles& files, const EngineOptions& options,
                                     const CalibrationData& data, const StopScope& stop, Console& console) {
  const engine::Preparer preparer(files, engine::prepare_options(options, files));
  samples::PicturesOptions how;
  how.count = static_cast<std::size_t>(data.samples), how.seed = static_cast<std::uint64_t>(data.seed);
  how.side = files.config.vision.image_size;
  const std::string name = !data.data.empty() ? data.data : files.knows_photographs ? "random" : "emoji";
  const auto pictures = samples::open_pictures(name, how);
  const auto [texts, texts_from] = find_texts(files, data, *pictures);

  CalibrationInputs out;
  Progress progress(console, "inputs prepared", pictures->size() + texts.size());
  std::size_t failed = 0;
  const auto prepare = [&](const std::string& what, const auto& one) {
    try {
      one();
    } catch (const Error& e) {
      console.item_failed(what, {e.code(), e.what()});
      ++failed;
    }
    progress.update(out.inputs.pictures.size() + out.inputs.texts.size() + failed, failed);
  };
  const auto side = static_cast<std::size_t>(preparer.input_size());
  for (std::size_t i = 0; i < pictures->size(); ++i) {
    if (stop.flag()->load()) return {};
    prepare(pictures->name(i), [&] {
      const engine::Prepared picture = preparer.prepare(pictures->open(i));
      out.inputs.pictures.emplace_back(picture.pixels(), picture.pixels() + side * side * 3);
    });
  }
  for (std::size_t i = 0; i < texts.size(); ++i) {
    prepare(cat("text ", i), [&] { out.inputs.texts.push_back(preparer.prepare(texts[i]).ids); });
  }
  if (out.inputs.pictures.empty()) throw Error(Code::bad_data, cat(name, " holds no picture that can be read"));
  const bool drawn = name == "emoji" || name == "random";
  out.description = cat(
      out.inputs.pictures.size(), " pictures of ",
      drawn ? cat(name, " (seed ", data.seed, ")") : std::filesystem::path(name).lexically_normal().filename().string(),
      ", ", out.inputs.texts.size(), " texts: ", texts_from);
  return out;
}

}  // namespace tandem::cli
