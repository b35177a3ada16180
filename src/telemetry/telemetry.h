// What a server counts: the one object that its metrics, its statistics and its health are made from.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "tandem/observer.h"
#include "telemetry/memory_watch.h"
#include "telemetry/time_histogram.h"

namespace tandem::telemetry {

/// Where an item's time goes. A text's tokenising is its `decode`; texts have no `resize` and next to no `copy`.
enum class Stage : std::uint8_t { queue, decode, resize, copy, compute };
inline constexpr std::array kStages{Stage::queue, Stage::decode, Stage::resize, Stage::copy, Stage::compute};
const char* to_string(Stage stage) noexcept;

/// Caches that a server may have; whoever keeps one counts in Telemetry::cache().
enum class Cache : std::uint8_t { texts, images, embeddings };
inline constexpr std::array kCaches{Cache::texts, Cache::images, Cache::embeddings};
const char* to_string(Cache cache) noexcept;

struct CacheCounters {
  std::atomic<std::uint64_t> hits{0}, misses{0}, evictions{0};
  std::atomic<std::uint64_t> coalesced{0};          ///< joined the same work, which was under way
  std::atomic<std::uint64_t> entries{0}, bytes{0};  ///< that it holds now
};

/// Of one API key.
struct KeyCounters {
  std::atomic<std::uint64_t> requests{0}, refused{0}, items{0};
};

/// One thing that can be asked for; known from the start, so that counting needs no lock.
struct RouteName {
  std::string method, path;
};

/// A request that has been answered.
struct Finished {
  std::size_t route = 0;  ///< index into the routes; beyond them: none of them
  int status = 0;
  double seconds = 0;
  std::size_t images = 0, texts = 0;
  std::size_t bytes_in = 0, bytes_out = 0;  ///< of the bodies
};

/// Sizes of batches: how many were at most 1, 2, 4, … 4096 items, and more.
struct SizeCounts {
  static constexpr std::size_t kBounds = 13;
  std::array<std::uint64_t, kBounds + 1> buckets{};
  std::uint64_t batches = 0, items = 0;
};

/// Thread-safe; counting takes relaxed additions only.
class Telemetry final : public Observer {
 public:
  explicit Telemetry(std::vector<RouteName> routes);

  void connection_opened() noexcept { ++connections_; }
  void connection_closed() noexcept { --connections_; }
  void request_begun() noexcept { ++in_flight_; }
  void request_done(const Finished& finished) noexcept;

  void prepared(bool image, double decode, double resize) noexcept override;
  void waited(bool image, double seconds) noexcept override;
  void computed(bool image, std::size_t items, double copy, double compute) noexcept override;

  CacheCounters& cache(Cache which) noexcept { return caches_[static_cast<std::size_t>(which)]; }
  const CacheCounters& cache(Cache which) const noexcept { return caches_[static_cast<std::size_t>(which)]; }
  /// The counters of a key, from now on for ever: its holder counts without a look-up.
  std::shared_ptr<KeyCounters> key(const std::string& name);
  std::vector<std::pair<std::string, std::shared_ptr<KeyCounters>>> keys() const;

  /// Lines of the log, and spans, that were lost because the disk or the collector did not take them.
  std::atomic<std::uint64_t> log_dropped{0}, spans_sent{0}, spans_dropped{0};

  /// Looks at the process's memory, for the leak watch. Call about every second.
  void sample() { memory_.sample(requests()); }
  const MemoryWatch& memory() const noexcept { return memory_; }

  // What was counted, from the start on; `recent`: in about the last minute.
  std::uint64_t requests() const noexcept { return requests_.load(std::memory_order_relaxed); }
  std::int64_t in_flight() const noexcept { return in_flight_; }
  std::int64_t connections() const noexcept { return connections_; }
  double uptime() const noexcept { return now(); }
  std::uint64_t bytes_in() const noexcept { return bytes_in_; }
  std::uint64_t bytes_out() const noexcept { return bytes_out_; }
  std::uint64_t items(bool image) const noexcept { return items_[image ? 1 : 0]; }
  TimeCounts stage(Stage stage, bool image) const { return stages_.at(slot(stage, image)).counts(); }
  TimeCounts recent(Stage stage) const { return recent_stages_.at(static_cast<std::size_t>(stage)).counts(now()); }
  /// Requests that had something to compute.
  TimeCounts total() const { return total_.counts(); }
  TimeCounts recent_total() const { return recent_total_.counts(now()); }
  /// What recent_total() and recent() are of.
  double recent_seconds() const noexcept { return RecentHistogram::seconds(now()); }
  /// Seconds that items spent in batches while these were computed: a batch of 8 for 1 s counts 8 s.
  double item_seconds() const noexcept;
  SizeCounts batches(bool image) const;

  struct OfRoute {
    const RouteName* name;
    std::vector<std::pair<int, std::uint64_t>> statuses;  ///< those that occurred
    TimeCounts times;
  };
  /// Of every route that was asked for; the last one's name is "other" where something else was.
  std::vector<OfRoute> routes() const;

 private:
  static constexpr std::array kStatuses{200, 204, 206, 304, 400, 401, 403, 404, 405, 408, 409, 413, 415,
                                        417, 422, 424, 429, 431, 499, 500, 501, 502, 503, 504, 505};
  struct Route {
    std::array<std::atomic<std::uint64_t>, kStatuses.size() + 1> statuses{};
    TimeHistogram times;
  };
  struct Sizes {
    std::array<std::atomic<std::uint64_t>, SizeCounts::kBounds + 1> buckets{};
    std::atomic<std::uint64_t> items{0};
  };

  static std::size_t slot(Stage stage, bool image) { return 2 * static_cast<std::size_t>(stage) + (image ? 1 : 0); }
  /// Seconds since this was made.
  double now() const noexcept;
  void record(Stage stage, bool image, double seconds) noexcept;

  const std::chrono::steady_clock::time_point made_ = std::chrono::steady_clock::now();
  const std::vector<RouteName> names_;  ///< the last one is "other"
  std::vector<std::unique_ptr<Route>> routes_;
  std::array<TimeHistogram, 2 * kStages.size()> stages_;
  std::array<RecentHistogram, kStages.size()> recent_stages_;
  TimeHistogram total_;
  RecentHistogram recent_total_;
  std::array<Sizes, 2> sizes_;
  std::array<CacheCounters, kCaches.size()> caches_;
  std::atomic<std::uint64_t> requests_{0}, bytes_in_{0}, bytes_out_{0}, item_nanoseconds_{0};
  std::array<std::atomic<std::uint64_t>, 2> items_{};
  std::atomic<std::int64_t> in_flight_{0}, connections_{0};
  MemoryWatch memory_;
  mutable std::mutex mutex_;
  std::map<std::string, std::shared_ptr<KeyCounters>> keys_;
};

}  // namespace tandem::telemetry
