// The loop of a bulk job: read ahead, keep the engine busy, write in order, lose nothing.
#pragma once

#include <cstddef>
#include <functional>
#include <future>

#include "embed/item.h"
#include "embed/line_reader.h"
#include "embed/sink.h"

namespace tandem::embed {

/// Engine::submit, or what stands for it in a test.
using Submit = std::function<std::future<Response>(Request)>;

struct JobReport {
  std::size_t succeeded = 0, failed = 0, truncated = 0;
  bool interrupted = false;  ///< `stop` was set: not all items were taken
};

struct JobOptions {
  EmbedOptions embed;
  std::size_t chunk_images = 32;  ///< pictures in a request
  std::size_t chunk_texts = 256;  ///< texts in a request
  std::size_t lookahead = 4;      ///< requests in flight: while one computes, the next are read and decoded
  /// Encoded pictures and texts in flight; one chunk is always let through, and holds one item beyond its share.
  std::size_t lookahead_bytes = std::size_t{512} << 20;
  StopFlag stop = nullptr;
  std::function<void(const JobReport&)> on_progress;  ///< after every chunk; may be empty
};

/// Sends every item of `source` through the engine and gives each to `sink` exactly once, in order, with its vector or
/// its error; does not finish() the sink. Memory is bounded by the look-ahead. When a whole request fails, each of its
/// items gets that error; when the engine is gone (device_failure, unavailable), the Error is thrown. Ends early,
/// within a fraction of a second, once `stop` is set: requests in flight are withdrawn.
JobReport run_job(const Submit& submit, ItemSource& source, Sink& sink, const JobOptions& options);

}  // namespace tandem::embed
