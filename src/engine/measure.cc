#include "engine/measure.h"

#include <algorithm>

#include "base/clock.h"

namespace tandem::engine {
namespace {

constexpr int kTries = 3;

}  // namespace

std::vector<PassTime> measure_passes(Rehearsal& rehearsal, std::size_t most, double seconds) {
  std::vector<PassTime> times;
  const model::Model& model = rehearsal.lane().model();
  if (most == 0 || !(rehearsal.images() ? model.vision.has_value() : model.text.has_value())) return times;
  std::vector<std::size_t> sizes;
  for (std::size_t n = 1; n < most; n *= 2) sizes.push_back(n);
  sizes.push_back(most);
  // The steps, and what lies between the large sizes, where time is left for them.
  for (std::size_t n = 16; n < most; n *= 2) sizes.push_back(n + 1);
  for (std::size_t n = 8; n < most; n *= 2) sizes.push_back(n + n / 2);

  const auto begin = Clock::now();
  if (rehearsal.passes() == 0) rehearsal.pass(1);  // the first pass of all is slower
  double planned = 0;                              // seconds of the passes that are still to come for the sizes taken
  for (const std::size_t n : sizes) {
    if (n > most || std::any_of(times.begin(), times.end(), [&](const PassTime& t) { return t.items == n; })) continue;
    // A size that could be tried only once is left out: disturbed that once, it would be avoided for ever.
    const double expected = times.empty() ? 0 : estimate(times, n);
    if (!times.empty() && seconds_since(begin) + planned + kTries * expected > seconds) continue;
    const double took = rehearsal.pass(n);
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
      all.push_back(rehearsal.pass(time.items));
      std::sort(all.begin(), all.end());
      time.seconds = all[0];
      time.spread = all[1] / all[0] - 1;
    }
  }
  return times;
}

}  // namespace tandem::engine
