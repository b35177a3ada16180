#include "engine/find_model.h"

#include "hub/hub.h"

namespace tandem::engine {

model::ModelFiles find_model(const std::string& name, const std::string& vocab) {
  const hub::Location location = hub::locate(name);
  model::ModelFiles files;
  if (const auto* random = std::get_if<hub::RandomModel>(&location)) {
    files = model::open_random(random->architecture, random->seed);
    files.tokenizer = hub::bundled_models() / "emoji";
  } else {
    const auto& folder = std::get<hub::LocalFolder>(location);
    files = model::open_folder(folder.path);
    files.knows_photographs = !folder.bundled;
  }
  files.config.name = name;
  if (!vocab.empty()) files.tokenizer = vocab;
  return files;
}

}  // namespace tandem::engine
