#include "engine/batch_plan.h"

#include <algorithm>
#include <cmath>

namespace tandem::engine {
namespace {

/// Beyond this a pass more or less makes no difference, and the table is large.
constexpr std::size_t kMost = 1024;
constexpr double kEqual = 1e-9;  // of times: what the rounding of sums may differ

double each(const PassTime& t) {
  return t.seconds / static_cast<double>(t.items);
}

auto cheapest(const std::vector<PassTime>& times) {
  return std::min_element(times.begin(), times.end(),
                          [](const PassTime& a, const PassTime& b) { return each(a) < each(b); });
}

double usual_spread(const std::vector<PassTime>& times) {
  std::vector<double> all;
  for (const PassTime& t : times) all.push_back(t.spread);
  std::nth_element(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2), all.end());
  return all[all.size() / 2];
}

}  // namespace

double estimate(const std::vector<PassTime>& times, std::size_t items) {
  const auto above = std::find_if(times.begin(), times.end(), [&](const PassTime& t) { return t.items >= items; });
  if (above == times.end()) {
    return each(*cheapest(times)) * static_cast<double>(items);
  }
  if (above == times.begin() || above->items == items) return above->seconds;
  const PassTime& below = *(above - 1);
  const double part = static_cast<double>(items - below.items) / static_cast<double>(above->items - below.items);
  return below.seconds + part * (above->seconds - below.seconds);
}

BatchPlan::BatchPlan(const std::vector<PassTime>& times, std::size_t most) : most_(most) {
  if (times.empty() || most == 0 || most > kMost) return;
  const double least = each(*cheapest(times));
  const auto enough =
      std::find_if(times.begin(), times.end(), [&](const PassTime& t) { return each(t) <= least * (1 + kSlack); });
  most_ = most = std::min(most, std::max(enough->items, static_cast<std::size_t>(std::ceil(kLong / least))));
  std::vector<double> alone(most + 1);  // seconds of one pass
  for (std::size_t n = 1; n <= most; ++n) alone[n] = estimate(times, n);
  const double worth = std::max(kWorth, 2 * usual_spread(times));
  // Up to two full passes ahead; what lies beyond them is as much work either way.
  const std::size_t ahead = 2 * most;
  std::vector<double> best(ahead + 1, 0);
  first_.assign(ahead + 1, 0);
  for (std::size_t n = 1; n <= ahead; ++n) {
    // The largest pass that is possible, unless others are worth it.
    first_[n] = std::min(n, most);
    best[n] = alone[first_[n]] + best[n - first_[n]];
    const double plain = best[n];
    for (std::size_t pass = first_[n] - 1; pass > 0; --pass) {
      const double seconds = alone[pass] + best[n - pass];
      if (seconds < best[n] * (1 - kEqual) && seconds < plain * (1 - worth)) first_[n] = pass, best[n] = seconds;
    }
  }
}

std::size_t BatchPlan::next(std::size_t waiting) const {
  if (first_.empty()) return most_ == 0 ? waiting : std::min(waiting, most_);
  return first_[std::min(waiting, first_.size() - 1)];
}

}  // namespace tandem::engine
