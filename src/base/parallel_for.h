// A loop over independent pieces of work, shared between the calling thread and a pool's.
#pragma once

#include <cstddef>
#include <functional>

#include "base/thread_pool.h"

namespace tandem {

/// body(0) … body(count - 1), each at most once, in this order as far as threads take them: by the caller and by at
/// most `helpers` threads of the pool (null: none), whenever they get to it. Never waits for a helper that has not
/// begun, so that a busy pool costs its help only. Returns when all are done. When a body throws, no further one
/// begins, and the exception of the smallest index that threw is thrown here.
void parallel_for(ThreadPool* pool, int helpers, std::size_t count, const std::function<void(std::size_t)>& body);

}  // namespace tandem
