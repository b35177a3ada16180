#include "server/bodies.h"

#include <algorithm>
#include <utility>

namespace tandem::server {

std::string Bodies::take(std::size_t bytes) {
  std::string body;
  if (bytes >= kLeast) {
    const std::lock_guard lock(mutex_);
    const auto fits = [&](const std::string& s) { return s.capacity() >= bytes && s.capacity() / kWaste <= bytes; };
    const auto found = std::find_if(kept_.rbegin(), kept_.rend(), fits);
    if (found != kept_.rend()) {
      body = std::move(*found);
      bytes_ -= body.capacity();
      const auto at = static_cast<std::size_t>(std::distance(found, kept_.rend())) - 1;
      kept_.erase(kept_.begin() + static_cast<std::ptrdiff_t>(at));
      idle_ = std::min(idle_, at);
    }
  }
  body.reserve(bytes);
  return body;
}

void Bodies::give(std::string body) noexcept {
  if (body.capacity() < kLeast) return;
  body.clear();
  const std::lock_guard lock(mutex_);
  if (kept_.size() == kMost || body.capacity() > most_ - bytes_) return;
  bytes_ += body.capacity();
  kept_.push_back(std::move(body));  // there is room
}

void Bodies::age() noexcept {
  const std::lock_guard lock(mutex_);
  for (std::size_t i = 0; i < idle_; ++i) {
    bytes_ -= kept_[i].capacity();
    kept_[i] = {};
  }
  kept_.erase(kept_.begin(), kept_.begin() + static_cast<std::ptrdiff_t>(idle_));
  idle_ = kept_.size();
}

std::size_t Bodies::bytes() const {
  const std::lock_guard lock(mutex_);
  return bytes_;
}

}  // namespace tandem::server
