#include "engine/shared_models.h"

#include <filesystem>
#include <system_error>
#include <utility>

#include "base/strings.h"

namespace tandem::engine {
namespace {

/// Members die in reverse: bytes are given back after the weights are freed.
struct Loaded {
  MemoryBudget::Reservation bytes;
  model::Model model;
};

std::string key_of(const model::ModelFiles& files, const std::string& hash, const backend::Backend& backend,
                   const model::LoadOptions& o) {
  std::error_code unresolved;
  std::filesystem::path folder = std::filesystem::canonical(files.folder, unresolved);
  if (unresolved) folder = files.folder;
  return cat(folder.string(), '\n', files.config.architecture, '\n', hash, '\n', to_string(backend.device()), '\n',
             to_string(backend.resolve(o.precision)), '\n', o.vision ? "vision " : "", o.text ? "text " : "",
             o.tensor_rank, '/', o.tensor_ranks, '\n', o.eight_bit != nullptr ? o.eight_bit->key() : "");
}

}  // namespace

std::shared_ptr<SharedModels::Entry> SharedModels::entry(const std::string& key) {
  const std::lock_guard lock(mutex_);
  std::erase_if(entries_, [](const auto& e) {
    if (e.second.use_count() > 1) return false;  // somebody loads, or looks whether it is there
    const std::lock_guard last(e.second->loading);
    return e.second->model.expired();
  });
  auto& found = entries_[key];
  if (!found) found = std::make_shared<Entry>();
  return found;
}

std::shared_ptr<const model::Model> SharedModels::get(const model::ModelFiles& files, backend::Backend& backend,
                                                      const model::LoadOptions& options) {
  const auto source = files.open_weights();
  const auto slot = entry(key_of(files, source->hash(), backend, options));
  const std::lock_guard lock(slot->loading);
  if (auto there = slot->model.lock(); there && model::same_network(there->config, files.config)) return there;
  const std::string what = cat("the weights of ", files.config.name);
  const auto loaded = std::make_shared<Loaded>();
  loaded->bytes = budget_.reserve(model::expected_weight_bytes(files.config, backend, options), what);
  loaded->model = model::load_model(files, *source, backend, options);
  loaded->bytes.resize(loaded->model.weight_bytes, what);
  std::shared_ptr<const model::Model> model(loaded, &loaded->model);
  slot->model = model;
  return model;
}

}  // namespace tandem::engine
