#include "engine/job.h"

#include <new>

namespace tandem::engine {

Job::Job(Request request, OnDone on_done)
    : request_(std::move(request)), on_done_(std::move(on_done)), remaining_(items()) {
  response_.images.resize(request_.images.size());
  response_.texts.resize(request_.texts.size());
}

std::optional<Code> Job::abandoned(Clock::time_point now) const noexcept {
  if (request_.cancel && request_.cancel->load(std::memory_order_relaxed)) return Code::cancelled;
  if (request_.deadline && now >= *request_.deadline) return Code::deadline_exceeded;
  return std::nullopt;
}

void Job::started(Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  if (started_) return;
  started_ = true;
  response_.queue_seconds = std::chrono::duration<double>(now - accepted_).count();
}

void Job::computed(double seconds) {
  const std::lock_guard lock(mutex_);
  response_.compute_seconds += seconds;
}

void Job::prepared(double seconds) {
  const std::lock_guard lock(mutex_);
  response_.prepare_seconds += seconds;
}

void Job::finish(bool image, std::size_t index, Embedding embedding) noexcept {
  (image ? response_.images : response_.texts)[index] = std::move(embedding);  // one writer for each item
  count_down();
}

void Job::finish_failed(ItemError error) noexcept {
  {
    const std::lock_guard lock(mutex_);
    if (!failure_) failure_ = std::move(error);
  }
  count_down();
}

void Job::count_down() noexcept {
  {
    const std::lock_guard lock(mutex_);
    if (--remaining_ > 0) return;
  }
  if (!on_done_) return;
  try {
    if (failure_) {
      on_done_(std::move(*failure_));
    } else {
      on_done_(std::move(response_));
    }
  } catch (...) {  // it was told that it must not; whoever waits behind it is not to pay
  }
}

namespace {

/// Short enough to need no memory itself.
constexpr const char* kNoMemory = "out of memory";

/// What `make` returns, or that there was no memory for it.
template <class Make>
ItemError made(Make make) noexcept {
  try {
    return make();
  } catch (const std::bad_alloc&) {
    return {Code::out_of_memory, kNoMemory};
  }
}

}  // namespace

ItemError to_item_error(const std::exception& error) noexcept {
  return made([&]() -> ItemError {
    if (const auto* ours = dynamic_cast<const Error*>(&error)) return {ours->code(), ours->what()};
    if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) {
      return {Code::out_of_memory, "host memory is exhausted: send less at once, or try again shortly"};
    }
    return {Code::internal, error.what()};
  });
}

ItemError copy_of(const ItemError& error) noexcept {
  return made([&] { return error; });
}

Embedding failed_with(const ItemError& error) noexcept {
  Embedding out;
  out.error = copy_of(error);
  return out;
}

ItemError error_of_abandoned(Code why) noexcept {
  return made([&]() -> ItemError {
    if (why == Code::cancelled) return {why, "the request was withdrawn before it was computed"};
    return {why, "the request's deadline passed before it was computed"};
  });
}

}  // namespace tandem::engine
