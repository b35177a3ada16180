// What the program says: results on standard output, everything else on standard error.
#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <string_view>

#include "tandem/engine.h"
#include "tandem/error.h"

namespace tandem::cli {

enum ExitCode : int { kOk = 0, kFailed = 1, kUsage = 2, kSomeFailed = 3, kInterrupted = 130 };

/// How much is said on standard error.
enum class Verbosity : int { debug, info, warn, error, off };

/// A mistake on the command line: exit code 2 and a hint at --help.
class UsageError : public Error {
 public:
  explicit UsageError(const std::string& message) : Error(Code::invalid_argument, message) {}
};

/// One per command that runs. Results are buffered; messages may come from any thread.
class Console {
 public:
  bool json = false;   ///< standard output carries JSON Lines and nothing else
  bool quiet = false;  ///< no progress, no notes
  Verbosity verbosity = Verbosity::warn;

  /// Appends to standard output. Throws io_error.
  void print(std::string_view text);
  void flush();

  /// A line of the given importance on standard error, "tandem: " in front.
  void say(Verbosity level, std::string_view message);
  /// A line for people that is no warning: not with --json, not with --quiet.
  void note(std::string_view message);

  /// An item that failed: a line on standard error for the first few, all of them counted.
  void item_failed(std::string_view input, const ItemError& error);
  /// After the last item: how many of `total` failed. The exit code of the command: kOk or kSomeFailed.
  int end_items(std::size_t total);

  /// Draws or clears a line in place; see Progress.
  void draw(std::string_view line);

  /// For ContextOptions::log.
  std::function<void(int, std::string_view)> log_sink();

 private:
  void write_line(std::string_view line);

  std::string out_;
  std::mutex mutex_;
  std::size_t failed_ = 0;
  bool drawn_ = false;  // a progress line stands on the terminal
};

/// {"error":{"code","message"}}\n
std::string json_error(Code code, std::string_view message);

}  // namespace tandem::cli
