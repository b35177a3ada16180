#include "verify/difference.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/strings.h"

namespace tandem::verify {
namespace {

// Smaller outputs are left out of the worst channel: what is next to nothing has errors many times its own size.
constexpr double kLeastChannel = 1.0 / 3;

/// sqrt(error / want) of sums of squares; 1, all of it, where nothing was wanted and something came, or no number did.
double relative(double error, double want) {
  if (error == 0) return 0;
  if (!std::isfinite(error) || want <= 0) return 1;
  return std::sqrt(error / want);
}

}  // namespace

void Difference::add(std::span<const float> got, std::span<const float> want, std::int64_t columns,
                     std::int64_t first) {
  if (got.size() != want.size()) {
    throw Error(Code::internal, cat("an output of ", got.size(), " values is compared with one of ", want.size()));
  }
  const auto width = static_cast<std::size_t>(columns), begin = static_cast<std::size_t>(first);
  channels_.resize(std::max(channels_.size(), begin + width));
  for (std::size_t at = 0; at < got.size(); at += width) {
    for (std::size_t c = 0; c < width; ++c) {
      Channel& sums = channels_[begin + c];
      const double g = got[at + c], w = want[at + c];
      sums.error += (g - w) * (g - w), sums.want += w * w, sums.cross += g * w, sums.got += g * g;
    }
  }
}

LayerError Difference::result() const {
  Channel all;
  for (const Channel& c : channels_) {
    all.error += c.error, all.want += c.want, all.cross += c.cross, all.got += c.got;
  }
  LayerError e;
  e.relative_error = relative(all.error, all.want);
  const double length = std::sqrt(all.got * all.want);
  e.cosine = length > 0 && std::isfinite(length) ? all.cross / length : all.error == 0 ? 1 : 0;
  e.gain = all.want > 0 && std::isfinite(all.cross) ? all.cross / all.want : all.error == 0 ? 1 : 0;
  const double least =
      all.want / static_cast<double>(std::max<std::size_t>(channels_.size(), 1)) * kLeastChannel * kLeastChannel;
  for (std::size_t i = 0; i < channels_.size(); ++i) {
    if (channels_[i].want < least) continue;
    const double error = relative(channels_[i].error, channels_[i].want);
    if (error > e.worst_channel_error) e.worst_channel_error = error, e.worst_channel = static_cast<std::int64_t>(i);
  }
  return e;
}

}  // namespace tandem::verify
