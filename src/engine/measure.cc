#include "engine/measure.h"

#include <algorithm>

#include "base/clock.h"

namespace tandem::engine {
namespace {

constexpr int kTries = 3;

/// A pass of `count` pictures: seconds.
double pass(Lane& lane, std::size_t count, const std::shared_ptr<const std::vector<std::uint8_t>>& pixels, int side) {
  Request request;
  request.images.assign(count, HostPixels{pixels, side, side});
  const auto job = std::make_shared<Job>(std::move(request), nullptr);
  std::vector<Item> items(count);
  for (std::size_t i = 0; i < count; ++i) {
    items[i].job = job, items[i].image = true, items[i].index = i;
    items[i].prepared.shared_pixels = {pixels, pixels->data()};
  }
  const auto begin = Clock::now();
  lane.begin(items);
  lane.finish(items);
  return seconds_since(begin);
}

}  // namespace

std::vector<PassTime> measure_passes(Lane& lane, std::size_t most, double seconds) {
  std::vector<PassTime> times;
  if (!lane.model().vision || most == 0) return times;
  const int side = lane.model().config.vision.image_size;
  const auto bytes = static_cast<std::size_t>(side) * static_cast<std::size_t>(side) * 3;
  auto noise = std::make_shared<std::vector<std::uint8_t>>(bytes);
  std::uint32_t state = 1;
  for (auto& byte : *noise) byte = static_cast<std::uint8_t>((state = state * 1664525U + 1013904223U) >> 24);

  std::vector<std::size_t> sizes;
  for (std::size_t n = 1; n < most; n *= 2) sizes.push_back(n);
  sizes.push_back(most);
  // The steps, and what lies between the large sizes, where time is left for them.
  for (std::size_t n = 16; n < most; n *= 2) sizes.push_back(n + 1);
  for (std::size_t n = 8; n < most; n *= 2) sizes.push_back(n + n / 2);

  const auto begin = Clock::now();
  pass(lane, 1, noise, side);  // the first pass of all is slower
  double planned = 0;          // seconds of the passes that are still to come for the sizes taken
  for (const std::size_t n : sizes) {
    if (n > most || std::any_of(times.begin(), times.end(), [&](const PassTime& t) { return t.items == n; })) continue;
    // A size that could be tried only once is left out: disturbed that once, it would be avoided for ever.
    const double expected = times.empty() ? 0 : estimate(times, n);
    if (!times.empty() && seconds_since(begin) + planned + kTries * expected > seconds) continue;
    const double took = pass(lane, n, noise, side);
    planned += (kTries - 1) * took;
    const auto at = std::find_if(times.begin(), times.end(), [&](const PassTime& t) { return t.items > n; });
    times.insert(at, {n, took});
  }
  // Not at once: what disturbs lasts longer than a pass, and would make one size look worse than its neighbours.
  std::vector<std::vector<double>> tries;
  for (const PassTime& time : times) tries.push_back({time.seconds});
  for (int i = 1; i < kTries; ++i) {
    for (std::size_t k = 0; k < times.size(); ++k) {
      PassTime& time = times[k];
      if (seconds_since(begin) + time.seconds > seconds) continue;
      std::vector<double>& all = tries[k];
      all.push_back(pass(lane, time.items, noise, side));
      std::sort(all.begin(), all.end());
      time.seconds = all[0];
      time.spread = all[1] / all[0] - 1;
    }
  }
  return times;
}

}  // namespace tandem::engine
