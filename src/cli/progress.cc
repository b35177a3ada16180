#include "cli/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "base/strings.h"

namespace tandem::cli {
namespace {

constexpr std::chrono::milliseconds kRedraw{100};
constexpr int kBar = 30;

std::string duration(double seconds) {
  const auto s = static_cast<long>(std::ceil(seconds));
  if (s < 60) return cat(s, " s");
  if (s < 3600) return cat(s / 60, " min ", s % 60, " s");
  return cat(s / 3600, " h ", s % 3600 / 60, " min");
}

}  // namespace

Progress::Progress(Console& console, std::string what, std::optional<std::size_t> total)
    : console_(console),
      what_(std::move(what)),
      total_(total),
      shown_(!console.quiet && console.verbosity <= Verbosity::warn && ::isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  if (drawn_) console_.draw("");
}

void Progress::update(std::size_t done, std::size_t failed) {
  const auto now = Clock::now();
  if (!shown_ || now - last_ < kRedraw) return;
  last_ = now;
  drawn_ = true;
  const double seconds = std::chrono::duration<double>(now - begin_).count();
  const double rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
  std::string line;
  if (total_ && *total_ > 0) {
    const auto filled = static_cast<std::size_t>(kBar * std::min(done, *total_) / *total_);
    line = cat("[", std::string(filled, '#'), std::string(kBar - filled, '.'), "] ", done, "/", *total_);
  } else {
    line = cat(done);
  }
  line += cat(" ", what_, ", ", std::lround(rate), "/s");
  if (total_ && rate > 0 && *total_ > done)
    line += cat(", ", duration(static_cast<double>(*total_ - done) / rate), " left");
  if (failed > 0) line += cat(", ", failed, " failed");
  console_.draw(line);
}

}  // namespace tandem::cli
