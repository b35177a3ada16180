#include "engine/memory_budget.h"

#include "base/strings.h"
#include "tandem/error.h"

namespace tandem::engine {

void MemoryBudget::take(std::size_t bytes, std::string_view what) {
  const std::lock_guard lock(mutex_);
  if (allowed_ != 0 && (used_ > allowed_ || bytes > allowed_ - used_)) {
    throw Error(Code::out_of_memory,
                cat(what, " need ", bytes, " bytes, and ", used_, " of the memory budget of ", allowed_,
                    " are in use: raise the budget, end another engine, or use a smaller model, batch or precision"));
  }
  used_ += bytes;
}

void MemoryBudget::give_back(std::size_t bytes) noexcept {
  const std::lock_guard lock(mutex_);
  used_ -= bytes;
}

MemoryBudget::Reservation MemoryBudget::reserve(std::size_t bytes, std::string_view what) {
  take(bytes, what);
  return {this, bytes};
}

void MemoryBudget::Reservation::resize(std::size_t bytes, std::string_view what) {
  if (bytes > bytes_) budget_->take(bytes - bytes_, what);
  if (bytes < bytes_) budget_->give_back(bytes_ - bytes);
  bytes_ = bytes;
}

std::size_t MemoryBudget::used() const {
  const std::lock_guard lock(mutex_);
  return used_;
}

std::size_t MemoryBudget::left() const {
  if (allowed_ == 0) return std::numeric_limits<std::size_t>::max();
  const std::lock_guard lock(mutex_);
  return used_ < allowed_ ? allowed_ - used_ : 0;
}

}  // namespace tandem::engine
