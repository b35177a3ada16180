#include "telemetry/telemetry.h"

#include <algorithm>
#include <bit>

#include "base/clock.h"

namespace tandem::telemetry {

const char* to_string(Stage stage) noexcept {
  switch (stage) {
    case Stage::queue: return "queue";
    case Stage::decode: return "decode";
    case Stage::resize: return "resize";
    case Stage::copy: return "copy";
    case Stage::compute: return "compute";
  }
  return "compute";
}

const char* to_string(Cache cache) noexcept {
  switch (cache) {
    case Cache::texts: return "texts";
    case Cache::images: return "images";
    case Cache::embeddings: return "embeddings";
  }
  return "embeddings";
}

Telemetry::Telemetry(std::vector<RouteName> routes)
    : names_([&] {
        routes.push_back({"other", "other"});
        return std::move(routes);
      }()) {
  for (std::size_t i = 0; i < names_.size(); ++i) routes_.push_back(std::make_unique<Route>());
}

double Telemetry::now() const noexcept {
  return seconds_since(made_);
}

void Telemetry::request_done(const Finished& finished) noexcept {
  --in_flight_;
  requests_.fetch_add(1, std::memory_order_relaxed);
  bytes_in_.fetch_add(finished.bytes_in, std::memory_order_relaxed);
  bytes_out_.fetch_add(finished.bytes_out, std::memory_order_relaxed);
  Route& route = *routes_[std::min(finished.route, routes_.size() - 1)];
  const auto* const known = std::find(kStatuses.begin(), kStatuses.end(), finished.status);
  route.statuses[static_cast<std::size_t>(known - kStatuses.begin())].fetch_add(1, std::memory_order_relaxed);
  route.times.record(finished.seconds);
  if (finished.images + finished.texts == 0) return;
  total_.record(finished.seconds);
  recent_total_.record(finished.seconds, now());
}

void Telemetry::record(Stage stage, bool image, double seconds) noexcept {
  stages_[slot(stage, image)].record(seconds);
  recent_stages_[static_cast<std::size_t>(stage)].record(seconds, now());
}

void Telemetry::prepared(bool image, double decode, double resize) noexcept {
  record(Stage::decode, image, decode);
  if (image) record(Stage::resize, image, resize);
}

void Telemetry::waited(bool image, double seconds) noexcept {
  record(Stage::queue, image, seconds);
}

void Telemetry::computed(bool image, std::size_t items, double copy, double compute) noexcept {
  if (image) record(Stage::copy, image, copy);
  record(Stage::compute, image, compute);
  items_[image ? 1 : 0].fetch_add(items, std::memory_order_relaxed);
  item_nanoseconds_.fetch_add(static_cast<std::uint64_t>((copy + compute) * 1e9) * items, std::memory_order_relaxed);
  Sizes& sizes = sizes_[image ? 1 : 0];
  const auto bound = items <= 1 ? std::size_t{0} : static_cast<std::size_t>(std::bit_width(items - 1));
  sizes.buckets[std::min(bound, SizeCounts::kBounds)].fetch_add(1, std::memory_order_relaxed);
  sizes.items.fetch_add(items, std::memory_order_relaxed);
}

double Telemetry::item_seconds() const noexcept {
  return static_cast<double>(item_nanoseconds_.load(std::memory_order_relaxed)) / 1e9;
}

SizeCounts Telemetry::batches(bool image) const {
  const Sizes& sizes = sizes_[image ? 1 : 0];
  SizeCounts out;
  for (std::size_t i = 0; i < out.buckets.size(); ++i) {
    out.buckets[i] = sizes.buckets[i].load(std::memory_order_relaxed);
    out.batches += out.buckets[i];
  }
  out.items = sizes.items.load(std::memory_order_relaxed);
  return out;
}

std::shared_ptr<KeyCounters> Telemetry::key(const std::string& name) {
  const std::lock_guard lock(mutex_);
  auto& counters = keys_[name];
  if (!counters) counters = std::make_shared<KeyCounters>();
  return counters;
}

std::vector<std::pair<std::string, std::shared_ptr<KeyCounters>>> Telemetry::keys() const {
  const std::lock_guard lock(mutex_);
  return {keys_.begin(), keys_.end()};
}

std::vector<Telemetry::OfRoute> Telemetry::routes() const {
  std::vector<OfRoute> out;
  for (std::size_t i = 0; i < routes_.size(); ++i) {
    OfRoute one{&names_[i], {}, {}};
    for (std::size_t s = 0; s < routes_[i]->statuses.size(); ++s) {
      const std::uint64_t count = routes_[i]->statuses[s].load(std::memory_order_relaxed);
      if (count > 0) one.statuses.emplace_back(s < kStatuses.size() ? kStatuses.at(s) : 0, count);
    }
    if (one.statuses.empty()) continue;
    one.times = routes_[i]->times.counts();
    out.push_back(std::move(one));
  }
  return out;
}

}  // namespace tandem::telemetry
