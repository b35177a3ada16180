// How an operation is divided over the backend's threads.
#pragma once

#include <omp.h>

#include <cstdint>

namespace tandem::backend::cpu {

/// Calls body(task, thread) for every task below `tasks`, the tasks handed out in order to whichever thread is free: on
/// a machine that others use too, a thread that was interrupted costs one task, not a share of the whole. `small` work
/// stays on the calling thread. A region always has the same number of threads, because libgomp allocates a new team
/// when that changes.
template <class Body>
void parallel_for(int threads, std::int64_t tasks, bool small, const Body& body) {
  if (threads == 1 || small || tasks <= 1) {
    for (std::int64_t t = 0; t < tasks; ++t) body(t, 0);
    return;
  }
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (std::int64_t t = 0; t < tasks; ++t) body(t, omp_get_thread_num());
}

}  // namespace tandem::backend::cpu
