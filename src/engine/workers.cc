#include "engine/workers.h"

#include <exception>

#include "base/strings.h"
#include "base/thread_pool.h"

namespace tandem::engine {

Workers::Workers(int count, const Make& make) : replicas_(static_cast<std::size_t>(count)) {
  try {
    for (int i = 0; i < count; ++i) {
      std::promise<void> made;
      auto answer = made.get_future();
      threads_.push_back(start_thread(cat("compute thread ", i + 1, " of ", count), [&, i, work = work_] {
        auto& own = replicas_[static_cast<std::size_t>(i)];
        try {
          own = make(i);
        } catch (...) {
          made.set_exception(std::current_exception());  // the last use of what the constructor's frame holds
          return;
        }
        made.set_value();
        if (const Work& body = work.get()) body(*own);
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
  for (auto& t : threads_) t.join();
  threads_.clear();
}

}  // namespace tandem::engine
