#include "engine/workers.h"

#include <exception>
#include <utility>

#include "base/strings.h"
#include "base/thread_pool.h"

namespace tandem::engine {
Workers::Workers(int count, Make make) : make_(std::move(make)), replicas_(static_cast<std::size_t>(count)) {
  health_.replicas = health_.working = count;
  try {
    for (int i = 0; i < count; ++i) {
      std::promise<void> made;
      auto answer = made.get_future();
      threads_.push_back(start_thread(cat("compute thread ", i + 1, " of ", count), [&, i, work = work_] {
        name_thread("compute");
        auto& own = replicas_[static_cast<std::size_t>(i)];
        try {
          own = make_(i, count - i);
        } catch (...) {
          made.set_exception(std::current_exception());  // the last use of what the constructor's frame holds
          return;
        }
        made.set_value();
        serve(i, work.get());
        own.reset();  // its backend dies on the thread that used it
      }));
      answer.get();
    }
  } catch (...) {
    join();
    throw;
  }
}

Workers::~Workers() {
  join();
}

void Workers::start(Work work) {
  started_ = true;
  start_.set_value(std::move(work));
}

void Workers::join() {
  if (!started_) start({});
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (auto& t : threads_) t.join();
  threads_.clear();
}

EngineHealth Workers::health() const {
  const std::lock_guard lock(mutex_);
  return health_;
}

bool Workers::pause(std::chrono::milliseconds how_long) {
  std::unique_lock lock(mutex_);
  return !changed_.wait_for(lock, how_long, [this] { return stopping_; });
}

void Workers::serve(int index, const Work& work) {
  auto& own = replicas_[static_cast<std::size_t>(index)];
  if (!work.serve) return;
  for (std::size_t tries = 0; own != nullptr;) {
    bool noted = false;
    const auto on_lost = [&](const ItemError& why) {
      const std::lock_guard lock(mutex_);
      if (!std::exchange(noted, true)) --health_.working, ++health_.replacing, health_.reason = why.message;
    };
    const std::uint64_t rehearsed = own->finished();
    std::optional<ItemError> lost;
    try {
      lost = work.serve(*own, on_lost);
    } catch (const std::exception& error) {  // no memory to begin with
      lost = to_item_error(error);
    }
    if (!lost) return;
    on_lost(*lost);
    if (own->finished() > rehearsed) tries = 0;
    own.reset();
    own = replace(index, work, std::move(*lost), tries);
  }
}

std::unique_ptr<Replica> Workers::replace(int index, const Work& work, ItemError why, std::size_t& tries) {
  const auto note = [&](auto change) {
    const std::lock_guard lock(mutex_);
    change();
    return health_;
  };
  EngineHealth now = health();
  work.logger.log(LogLevel::error, cat("a replica's device has failed, ", now.working, " of ", now.replicas,
                                       " are left: ", why.message));
  const std::string first = why.message;
  std::unique_ptr<Replica> fresh;
  while (fresh == nullptr && tries < work.pauses.size()) {
    if (!pause(work.pauses[tries++])) return nullptr;
    try {
      fresh = make_(index, health().replacing);
    } catch (const std::exception& error) {
      why = to_item_error(error);
      note([&] { health_.reason = cat(first, "; it could not be replaced yet: ", why.message); });
      work.logger.log(LogLevel::warning, cat("a replica could not be replaced, try ", tries, " of ", work.pauses.size(),
                                             ": ", why.message));
    }
  }
  if (fresh != nullptr) {
    now = note([&] {
      ++health_.working, --health_.replacing;
      if (health_.working == health_.replicas) health_.reason.clear();
    });
    work.logger.log(LogLevel::warning, cat("a replica was replaced, ", now.working, " of ", now.replicas, " work"));
    return fresh;
  }
  why = {Code::device_failure, cat(first, "; the replica could not be replaced in ", work.pauses.size(), " tries",
                                   why.message == first ? "" : ": ", why.message == first ? "" : why.message)};
  now = note([&] { --health_.replacing, health_.reason = why.message; });
  work.logger.log(LogLevel::error, cat(why.message, " (", now.working, " of ", now.replicas, " work, ", now.replacing,
                                       " are being replaced)"));
  if (now.working + now.replacing == 0) work.none_left(why);
  return nullptr;
}

}  // namespace tandem::engine
