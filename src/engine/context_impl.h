// What a Context owns.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include "base/log.h"
#include "base/thread_pool.h"
#include "engine/backends.h"
#include "engine/memory_budget.h"
#include "engine/shared_models.h"
#include "tandem/context.h"

namespace tandem {

struct Context::Impl {
  explicit Impl(const ContextOptions& given);
  ContextOptions options;  ///< zeros resolved to the number of usable cores
  Logger logger;
  bool decode_threads_given;
  bool threads_given;  ///< by the caller, for each replica; otherwise replicas divide the cores
  ThreadPool decode;   ///< decodes, resizes and tokenises for every Engine, and helps to load weights
  engine::MemoryBudget memory;
  engine::SharedModels models{memory};
  /// Makes every backend of this Context; tests put others in its place.
  std::function<std::unique_ptr<backend::Backend>(DeviceId, const ContextOptions&, const engine::Place&)> make_backend =
      engine::make_backend;

  /// How long an Engine waits before each try to replace a replica whose device failed; tests wait less.
  std::vector<std::chrono::milliseconds> replace_after{std::chrono::milliseconds(100), std::chrono::seconds(1),
                                                       std::chrono::seconds(5)};

  /// Of every Engine's replicas that divide the processor's threads pass by pass.
  std::shared_ptr<backend::SharedCores> cores = std::make_shared<backend::SharedCores>();

  /// A backend for one of several replicas on a device: on a processor with its own share of the threads and cores, or,
  /// `together`, with all threads as long as nobody else computes.
  std::unique_ptr<backend::Backend> backend(DeviceId device, int replica, int replicas, bool together) const;
};

}  // namespace tandem
