#include "server/memory.h"

#include <algorithm>

#include "base/strings.h"
#include "tandem/error.h"

namespace tandem::server {

bool MemoryLimit::take(std::size_t bytes) noexcept {
  std::size_t used = used_;
  do {
    if (used > limit_ || bytes > limit_ - used) return false;
  } while (!used_.compare_exchange_weak(used, used + bytes));
  return true;
}

void Reservation::add(std::size_t bytes, const char* what) {
  if (limit_.take(bytes)) {
    held_ += bytes;
    return;
  }
  if (bytes > limit_.limit() - std::min(limit_.limit(), held_.load())) {
    throw Error(Code::too_large, cat(what, " may take ", bytes, " bytes of memory; the limit is ", limit_.limit(),
                                     " bytes for all requests together: send less at a time"));
  }
  throw Error(Code::overloaded, cat("the requests under way fill ", limit_.used(), " of ", limit_.limit(),
                                    " bytes, and ", what, " may take ", bytes, "; try again shortly"));
}

void Reservation::hold(std::size_t bytes, const char* what) {
  if (const std::size_t held = held_; bytes > held) add(bytes - held, what);
}

void Reservation::set(std::size_t bytes) noexcept {
  limit_.take_anyway(bytes);
  limit_.give_back(held_.exchange(bytes));
}

void Reservation::give_back(std::size_t bytes) noexcept {
  held_ -= bytes;
  limit_.give_back(bytes);
}

}  // namespace tandem::server
