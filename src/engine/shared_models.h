// Weights that replicas share: loaded once for a device, and gone with the last replica that uses them.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "engine/memory_budget.h"
#include "model/model.h"

namespace tandem::engine {

/// Thread-safe. Knows what is loaded without keeping it loaded.
class SharedModels {
 public:
  explicit SharedModels(MemoryBudget& budget) : budget_(budget) {}
  SharedModels(const SharedModels&) = delete;
  SharedModels& operator=(const SharedModels&) = delete;

  /// The weights of `files` for backend.device(), prepared by `backend` or, earlier, by another backend of this device
  /// in the same Context. Equal are: the folder (or random model), its checkpoint's contents, everything of its
  /// configuration that weights depend on, device, precision, eight-bit choices, towers, and part of a tensor-parallel
  /// group. Two who ask for the same at the same time load it once. Their bytes are reserved before they are read, and
  /// given back with them. Throws what load_model() throws, and out_of_memory; nothing is kept then.
  std::shared_ptr<const model::Model> get(const model::ModelFiles& files, backend::Backend& backend,
                                          const model::LoadOptions& options);

 private:
  struct Entry {
    std::mutex loading;
    std::weak_ptr<const model::Model> model;
  };
  std::shared_ptr<Entry> entry(const std::string& key);

  MemoryBudget& budget_;
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Entry>> entries_;
};

}  // namespace tandem::engine
