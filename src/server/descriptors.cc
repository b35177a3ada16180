#include "server/descriptors.h"

#include <sys/resource.h>

#include <algorithm>
#include <limits>

namespace tandem::server {
namespace {

// A sharded checkpoint being mapped, the gallery's files, event loops, pipes and standard streams.
constexpr std::size_t kOthers = 128;

}  // namespace

std::size_t raise_descriptor_limit() noexcept {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return std::numeric_limits<std::size_t>::max();
  if (limit.rlim_cur < limit.rlim_max) {
    const rlimit raised{limit.rlim_max, limit.rlim_max};
    if (::setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
  }
  return limit.rlim_cur;  // RLIM_INFINITY is the largest number there is
}

int connections_within(std::size_t descriptors, int wanted) noexcept {
  // Where there are few, half of them are for connections.
  const std::size_t room = std::max(descriptors / 2, descriptors - std::min(descriptors, kOthers));
  return static_cast<int>(std::clamp<std::size_t>(room, 1, static_cast<std::size_t>(std::max(wanted, 1))));
}

}  // namespace tandem::server
