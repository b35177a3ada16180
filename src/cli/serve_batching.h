// The flags of `serve` that say how work is put together and what is remembered.
#pragma once

#include <memory>

#include "cli/flags.h"
#include "server/server.h"

namespace tandem::cli {

struct BatchingOptions {
  int batch = 0, delay_us = 2000, queue = 4096, replicas = 0;
  int texts = 10'000, pictures = 1000, image_mib = 64;
  int memory_mib = 0, decode_threads = 0;
  bool pin_decode = false, decode_equal = false;
  double measure_seconds = 2;
  bool no_cache = false, no_coalescing = false;
};

/// --max-batch, --max-delay-us, --max-queue, --replicas, --measure-seconds, --decode-threads, --pin-decode;
/// --text-cache, --image-cache, --image-cache-mib, --no-cache, --no-coalescing; --memory-limit.
void declare_batching(Flags& flags, BatchingOptions& options);

/// What they say, into the server's options.
void apply(const BatchingOptions& options, server::ServerOptions& server);

}  // namespace tandem::cli
