#include "embed/job.h"

#include <chrono>
#include <deque>
#include <thread>
#include <vector>

#include "base/strings.h"
#include "tandem/error.h"

namespace tandem::embed {
namespace {

// How often a waiting job looks whether it was interrupted.
constexpr std::chrono::milliseconds kPoll{50};
constexpr std::chrono::milliseconds kQueueFull{2};

struct Chunk {
  std::vector<Item> items;
  Request request;
  std::size_t bytes = 0;
  std::future<Response> response;
};

bool engine_is_gone(Code code) {
  return code == Code::device_failure || code == Code::unavailable;
}

class Job {
 public:
  Job(const Submit& submit, ItemSource& source, Sink& sink, const JobOptions& options)
      : submit_(submit), source_(source), sink_(sink), options_(options) {
    cancel_ = std::make_shared<std::atomic<bool>>(false);
  }

  JobReport run() {
    try {
      while (!stopped()) {
        Chunk chunk = read_chunk();
        if (chunk.items.empty()) break;
        while (!flying_.empty() &&
               (flying_.size() >= options_.lookahead || flying_bytes_ + chunk.bytes > options_.lookahead_bytes)) {
          if (!land_oldest()) break;
        }
        if (!launch(std::move(chunk))) break;
      }
      while (!flying_.empty() && land_oldest()) {
      }
    } catch (...) {
      cancel_->store(true);
      throw;
    }
    report_.interrupted = stopped();
    if (report_.interrupted) cancel_->store(true);
    return report_;
  }

 private:
  bool stopped() const { return options_.stop != nullptr && options_.stop->load(); }

  // Items of one kind, with their files' or texts' bytes. Stops short when the bytes would be too many.
  Chunk read_chunk() {
    Chunk chunk;
    chunk.request.options = options_.embed;
    chunk.request.cancel = cancel_;
    if (pending_) add(chunk, *std::exchange(pending_, std::nullopt));
    Item item;
    while (chunk.items.size() < limit(chunk) && chunk.bytes < options_.lookahead_bytes / options_.lookahead &&
           !stopped() && source_.next(item)) {
      if (!chunk.items.empty() && chunk.items.front().kind != item.kind) {
        pending_ = std::move(item);
        break;
      }
      add(chunk, std::move(item));
    }
    return chunk;
  }

  std::size_t limit(const Chunk& chunk) const {
    const bool texts = !chunk.items.empty() && chunk.items.front().kind == Kind::text;
    return std::max<std::size_t>(1, texts ? options_.chunk_texts : options_.chunk_images);
  }

  static void add(Chunk& chunk, Item item) {
    chunk.bytes += item.input.size();  // a text, or a broken line: it is kept for the report
    if (!item.error && item.kind == Kind::text) {
      chunk.bytes += item.input.size();
      chunk.request.texts.emplace_back(item.input);
    }
    if (!item.error && item.kind == Kind::image) {
      try {
        EncodedImage image = read_image(item.input);
        chunk.bytes += image.bytes->size();
        chunk.request.images.emplace_back(std::move(image));
      } catch (const Error& e) {
        item.error = ItemError{e.code(), e.what()};
      }
    }
    chunk.items.push_back(std::move(item));
  }

  // False when interrupted. A full queue is waited for: first for our own requests, then for somebody else's.
  bool launch(Chunk chunk) {
    while (!(chunk.request.images.empty() && chunk.request.texts.empty())) {
      if (stopped()) return false;
      try {
        chunk.response = submit_(Request(chunk.request));
        break;
      } catch (const Error& e) {
        if (e.code() == Code::overloaded) {
          if (flying_.empty()) {
            std::this_thread::sleep_for(kQueueFull);
          } else if (!land_oldest()) {
            return false;
          }
          continue;
        }
        if (engine_is_gone(e.code())) throw;
        std::promise<Response> failed;
        failed.set_exception(std::current_exception());
        chunk.response = failed.get_future();
        break;
      }
    }
    chunk.request.images.clear();
    chunk.request.texts.clear();
    flying_bytes_ += chunk.bytes;
    flying_.push_back(std::move(chunk));
    return true;
  }

  // Waits for the oldest request and gives its items to the sink. False when interrupted.
  bool land_oldest() {
    Chunk& chunk = flying_.front();
    if (chunk.response.valid()) {
      while (chunk.response.wait_for(kPoll) != std::future_status::ready) {
        if (stopped()) return false;
      }
    }
    if (stopped()) return false;
    deliver(chunk);
    flying_bytes_ -= chunk.bytes;
    flying_.pop_front();
    sink_.flush();
    if (options_.on_progress) options_.on_progress(report_);
    return true;
  }

  void deliver(Chunk& chunk) {
    Response response;
    std::optional<ItemError> whole;
    if (chunk.response.valid()) {
      try {
        response = chunk.response.get();
      } catch (const Error& e) {
        if (engine_is_gone(e.code())) throw;
        whole = ItemError{e.code(), e.what()};
      }
    }
    auto& vectors = chunk.items.front().kind == Kind::image ? response.images : response.texts;
    std::size_t next = 0;
    for (const Item& item : chunk.items) {
      Embedding vector;
      if (item.error) {
        vector.error = item.error;
      } else if (whole) {
        vector.error = whole;
      } else if (next < vectors.size()) {
        vector = std::move(vectors[next++]);
      } else {
        throw Error(Code::internal, cat("the engine returned ", vectors.size(), " vectors, more were asked for"));
      }
      report_.failed += vector.error ? 1 : 0;
      report_.succeeded += vector.error ? 0 : 1;
      report_.truncated += !vector.error && vector.truncated ? 1 : 0;
      sink_.take(item, vector);
    }
  }

  const Submit& submit_;
  ItemSource& source_;
  Sink& sink_;
  const JobOptions& options_;
  CancelFlag cancel_;
  std::optional<Item> pending_;  // the first item of the next chunk, of another kind
  std::deque<Chunk> flying_;
  std::size_t flying_bytes_ = 0;
  JobReport report_;
};

}  // namespace

JobReport run_job(const Submit& submit, ItemSource& source, Sink& sink, const JobOptions& options) {
  return Job(submit, source, sink, options).run();
}

}  // namespace tandem::embed
