#include "engine/job.h"

namespace tandem::engine {

Job::Job(Request request, OnDone on_done)
    : request_(std::move(request)), on_done_(std::move(on_done)), remaining_(items()) {
  response_.images.resize(request_.images.size());
  response_.texts.resize(request_.texts.size());
}

std::optional<ItemError> Job::abandoned(Clock::time_point now) const {
  if (request_.cancel && request_.cancel->load(std::memory_order_relaxed)) {
    return ItemError{Code::cancelled, "the request was withdrawn before it was computed"};
  }
  if (request_.deadline && now >= *request_.deadline) {
    return ItemError{Code::deadline_exceeded, "the request's deadline passed before it was computed"};
  }
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

void Job::finish(bool image, std::size_t index, Embedding embedding) {
  (image ? response_.images : response_.texts)[index] = std::move(embedding);  // one writer for each item
  count_down();
}

void Job::finish_failed(ItemError error) {
  {
    const std::lock_guard lock(mutex_);
    if (!failure_) failure_ = std::move(error);
  }
  count_down();
}

void Job::count_down() {
  {
    const std::lock_guard lock(mutex_);
    if (--remaining_ > 0) return;
  }
  if (!on_done_) return;
  if (failure_) {
    on_done_(std::move(*failure_));
  } else {
    on_done_(std::move(response_));
  }
}

ItemError to_item_error(const std::exception& error) {
  if (const auto* ours = dynamic_cast<const Error*>(&error)) return {ours->code(), ours->what()};
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) return {Code::out_of_memory, "host memory is exhausted"};
  return {Code::internal, error.what()};
}

}  // namespace tandem::engine
