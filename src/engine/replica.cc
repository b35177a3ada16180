#include "engine/replica.h"

#include <algorithm>

#include "base/strings.h"

namespace tandem::engine {
namespace {

/// Activations beyond a processor's outer cache only cost memory: above this, a larger batch is not faster.
constexpr std::size_t kHostArenaTarget = std::size_t{48} << 20;
constexpr int kLargestAutomaticBatch = 32;
/// The same for a GPU, where memory is the limit: more images than this do not make it faster.
constexpr int kLargestDeviceBatch = 256;

}  // namespace

Replica::Replica(Backends backends, std::shared_ptr<const model::Model> model, ReplicaLimits limits,
                 MemoryBudget& budget)
    : model_(std::move(model)), fixed_(limits.fixed) {
  for (auto& backend : backends) {
    lanes_.push_back(std::make_unique<Lane>(std::move(backend), model_, limits.helpers));
  }
  plan(limits, budget);
}

void Replica::plan(ReplicaLimits limits, MemoryBudget& budget) {
  const bool chosen = limits.max_batch == 0, gpu = backend().memory().total > 0;
  const int largest = gpu ? kLargestDeviceBatch : kLargestAutomaticBatch;
  size_.images = size_.texts = chosen ? largest : limits.max_batch;
  const auto too_large = [&] {
    return bytes() > limits.most || (chosen && !gpu && largest_arena() > kHostArenaTarget);
  };
  while (too_large() && shrink()) {
  }
  for (;;) {
    reserved_ = budget.reserve(bytes(), cat("activations for a batch of ", max_batch(), " on ", model_->config.name));
    try {
      for (std::size_t i = 0; i < lanes_.size(); ++i) lanes_[i]->allocate(part(i));
      return;
    } catch (const Error& error) {
      // Others use the device as well: what was free a moment ago may not be.
      if (error.code() != Code::out_of_memory || !shrink()) throw;
    }
    reserved_ = {};
  }
}

bool Replica::shrink() {
  const std::size_t images = lanes_.front()->bytes({size_.images, 0}), texts = lanes_.back()->bytes({0, size_.texts});
  std::int64_t& more = images >= texts ? size_.images : size_.texts;
  std::int64_t& less = images >= texts ? size_.texts : size_.images;
  // In a lane for both, what needs less makes no difference.
  std::int64_t* const one = more > 1 ? &more : lanes_.size() > 1 && less > 1 ? &less : nullptr;
  if (one == nullptr) return false;
  *one /= 2;
  return true;
}

std::size_t Replica::bytes() const {
  std::size_t sum = 0;
  for (std::size_t i = 0; i < lanes_.size(); ++i) sum += lanes_[i]->bytes(part(i));
  return sum;
}

std::size_t Replica::largest_arena() const {
  std::size_t most = 0;
  for (std::size_t i = 0; i < lanes_.size(); ++i) most = std::max(most, lanes_[i]->arena_bytes(part(i)));
  return most;
}

std::uint64_t Replica::finished() const noexcept {
  std::uint64_t sum = 0;
  for (const auto& lane : lanes_) sum += lane->finished();
  return sum;
}

void Replica::add_choices(std::vector<std::shared_ptr<const backend::Choices>>& to) const {
  for (const auto& lane : lanes_) {
    if (auto own = lane->backend().choices()) to.push_back(std::move(own));
  }
}

void Replica::add_work(std::vector<std::shared_ptr<const backend::LinearWork>>& to) const {
  for (const auto& lane : lanes_) {
    if (auto own = lane->backend().linear_work()) to.push_back(std::move(own));
  }
}

std::size_t Replica::device_bytes() const {
  std::size_t sum = 0;
  for (const auto& lane : lanes_) sum += lane->backend().memory().peak;
  return sum;
}

}  // namespace tandem::engine
