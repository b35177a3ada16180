// A progress line on a terminal.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>

#include "cli/console.h"

namespace tandem::cli {

/// Draws only where standard error is a terminal and neither --quiet nor a log level above warn forbids it.
class Progress {
 public:
  Progress(Console& console, std::string what, std::optional<std::size_t> total);
  ~Progress();  ///< takes the line away
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void update(std::size_t done, std::size_t failed);

 private:
  using Clock = std::chrono::steady_clock;
  Console& console_;
  std::string what_;
  std::optional<std::size_t> total_;
  bool shown_, drawn_ = false;
  Clock::time_point begin_ = Clock::now(), last_{};
};

}  // namespace tandem::cli
