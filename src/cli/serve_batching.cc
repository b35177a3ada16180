#include "cli/serve_batching.h"

#include <algorithm>

namespace tandem::cli {

void declare_batching(Flags& flags, BatchingOptions& o) {
  constexpr const char* kWork = "Work";
  constexpr const char* kMemory = "Memory";
  flags.number("--max-batch", o.batch, 1, 65536, "items in a forward pass; default: chosen")->group(kWork);
  flags.number("--batch", o.batch, 1, 65536, "the same")->group(kWork);
  flags.number("--max-delay-us", o.delay_us, 0, 10'000'000, "a pass waits so long for items that are expected")
      ->default_str("2000")
      ->group(kWork);
  flags.number("--max-queue-delay-microseconds", o.delay_us, 0, 10'000'000, "the same")->group(kWork);
  flags.number("--max-queue", o.queue, 1, 1 << 24, "items waiting; beyond it 429")->default_str("4096")->group(kWork);
  flags
      .number("--replicas", o.replicas, 0, 1024, "on each device; 0: 1, on a processor 1 to 4 that divide its threads")
      ->default_str("0")
      ->group(kWork);
  flags.seconds("--measure-seconds", o.measure_seconds, "time for finding the fastest sizes of passes; 0: none")
      ->default_str("2")
      ->group(kWork);
  flags
      .number("--decode-threads", o.decode_threads, 0, 4096,
              "threads that decode pictures; 0: all cores, one less for each GPU")
      ->group(kWork);
  flags.flag("--pin-decode", o.pin_decode, "each of them stays on one core")->group(kWork);
  flags.flag("--equal-decode", o.decode_equal, "they do not give way to threads that compute")->group(kWork);
  flags.number("--text-cache", o.texts, 0, 100'000'000, "vectors of texts that are remembered")
      ->default_str("10000")
      ->group(kMemory);
  flags.number("--image-cache", o.pictures, 0, 100'000'000, "fitted pictures that are remembered")
      ->default_str("1000")
      ->group(kMemory);
  flags.number("--image-cache-mib", o.image_mib, 0, 1 << 20, "MiB of vectors of pictures that are remembered")
      ->default_str("64")
      ->group(kMemory);
  flags.flag("--no-cache", o.no_cache, "remember nothing")->group(kMemory);
  flags.flag("--no-coalescing", o.no_coalescing, "compute equal inputs that wait at the same time one by one")
      ->group(kMemory);
  flags
      .number("--memory-limit", o.memory_mib, 0, 1 << 30,
              "MiB for weights, activations, caches and requests; batches and caches become smaller; 0: none")
      ->group(kMemory);
}

void apply(const BatchingOptions& o, server::ServerOptions& server) {
  constexpr int kMib = 20;
  EngineOptions& engine = server.engine;
  engine.max_batch = o.batch, engine.replicas = o.replicas;
  engine.max_delay = std::chrono::microseconds(o.delay_us);
  engine.measure_seconds = o.measure_seconds;
  engine.warm_up = true;
  // A request that the limit admits must fit the queue.
  engine.max_queue = static_cast<std::size_t>(std::max(o.queue, server.max_items));
  engine.caches.coalesce = !o.no_coalescing;
  if (!o.no_cache) {
    engine.caches.texts = static_cast<std::size_t>(o.texts);
    engine.caches.pictures = static_cast<std::size_t>(o.pictures);
    engine.caches.image_bytes = static_cast<std::size_t>(o.image_mib) << kMib;
  }
  server.context.decode_threads = o.decode_threads;
  server.context.pin_decode_threads = o.pin_decode;
  server.context.decode_gives_way = !o.decode_equal;
  if (o.memory_mib > 0) {
    // A quarter at most is for requests on their way; the model and what is remembered have the rest.
    const std::size_t limit = static_cast<std::size_t>(o.memory_mib) << kMib;
    server.max_buffered_bytes = std::min(server.max_buffered_bytes, limit / 4);
    server.context.memory_budget = limit - server.max_buffered_bytes;
  }
}

}  // namespace tandem::cli
