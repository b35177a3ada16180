#include "backend/cpu/team.h"

#include <immintrin.h>
#include <omp.h>

#include "base/strings.h"
#include "base/thread_pool.h"

namespace tandem::backend::cpu {
namespace {

/// Looks before sleeping; a pause is 20 to 40 nanoseconds.
constexpr int kLooks = 2000;

}  // namespace

Team::Team(int threads, Kind kind, std::vector<int> cores, std::shared_ptr<const SharedCores> shared)
    : threads_(threads),
      kind_(kind),
      cores_(std::move(cores)),
      shared_(std::move(shared)),
      shares_(static_cast<std::size_t>(threads)),
      width_(threads) {
  if (kind_ == Kind::openmp) return;
  try {
    for (int i = 1; i < threads_; ++i) {
      workers_.push_back(start_thread(cat("compute thread ", i + 1, " of ", threads_), [this, i] { work(i); }));
    }
  } catch (...) {  // those that run must end before their objects do
    stop();
    throw;
  }
}

Team::~Team() {
  stop();
}

void Team::stop() {
  stop_ = true;
  ++calls_;
  calls_.notify_all();
  width_ = threads_ + 1;  // another than any job's
  width_.notify_all();
  for (auto& w : workers_) w.join();
}

void Team::bind_caller() {
  if (cores_.empty() || bound_ == std::this_thread::get_id()) return;
  bound_ = std::this_thread::get_id();
  if (kind_ == Kind::own) return bind_to_core(cores_[0]);
#pragma omp parallel num_threads(threads_)
  bind_to_core(cores_[static_cast<std::size_t>(omp_get_thread_num()) % cores_.size()]);
}

void Team::run_all(std::int64_t tasks, int width, Function function, const void* body) {
  bind_caller();
  if (kind_ == Kind::openmp) {
    // Always the same number of threads: libgomp allocates a new team when that changes.
#pragma omp parallel for schedule(dynamic) num_threads(threads_)
    for (std::int64_t t = 0; t < tasks; ++t) function(body, t, omp_get_thread_num());
    return;
  }
  function_ = function, body_ = body, tasks_ = tasks;
  done_.store(0, std::memory_order_relaxed);
  for (int i = 0; i < width; ++i) {
    const auto first = static_cast<std::uint64_t>(tasks * i / width);
    const auto last = static_cast<std::uint64_t>(tasks * (i + 1) / width);
    shares_[static_cast<std::size_t>(i)].open.store(first << 32 | last, std::memory_order_release);
  }
  if (width_.load(std::memory_order_relaxed) != width) {
    width_.store(width, std::memory_order_release);
    width_.notify_all();
  }
  ++calls_;
  if (asleep_ > 0) calls_.notify_all();
  while (help(0)) {
  }
  // What is left is in the hands of workers.
  for (int i = 0; i < kLooks; ++i) {
    if (done_.load(std::memory_order_acquire) == tasks) return;
    _mm_pause();
  }
  caller_sleeps_ = true;
  for (std::int64_t done = done_; done != tasks; done = done_) done_.wait(done);
  caller_sleeps_ = false;
}

/// A task that is now this thread's: the next of its own share, or the last of another's; -1: there is none.
std::int64_t Team::claim(int thread) {
  constexpr std::uint64_t kLower = 0xffffffffU;
  for (int i = 0; i < threads_; ++i) {
    auto& share = shares_[static_cast<std::size_t>((thread + i) % threads_)].open;
    std::uint64_t open = share.load(std::memory_order_acquire);
    while (open >> 32 < (open & kLower)) {
      const std::uint64_t rest = i == 0 ? open + (std::uint64_t{1} << 32) : open - 1;
      if (share.compare_exchange_weak(open, rest, std::memory_order_acq_rel, std::memory_order_acquire)) {
        return static_cast<std::int64_t>(i == 0 ? open >> 32 : rest & kLower);
      }
    }
  }
  return -1;
}

/// Claims one task and does it. False: there was none.
bool Team::help(int thread) {
  const std::int64_t task = claim(thread);
  if (task < 0) return false;
  // The job stays as it is until this task is done.
  const std::int64_t tasks = tasks_;
  function_(body_, task, thread);
  if (++done_ == tasks && thread != 0 && caller_sleeps_) done_.notify_one();
  return true;
}

void Team::work(int thread) {
  name_thread("compute");
  if (!cores_.empty()) bind_to_core(cores_[static_cast<std::size_t>(thread) % cores_.size()]);
  while (!stop_) {
    if (const int width = width_; thread >= width) {
      width_.wait(width);  // not for the next job, but for one that is wide enough
      continue;
    }
    const int seen = calls_;
    for (int i = 0; i < kLooks && thread < threads(); ++i) {
      if (help(thread)) {
        i = 0;
      } else {
        _mm_pause();
      }
    }
    ++asleep_;
    if (!stop_) calls_.wait(seen);
    --asleep_;
  }
}

}  // namespace tandem::backend::cpu
