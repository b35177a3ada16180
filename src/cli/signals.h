// Ctrl-C. The one thing that belongs to the process as a whole, since signals do.
#pragma once

#include <atomic>

namespace tandem::cli {

/// From now on SIGINT and SIGTERM end the process with 130 and 143: at once, or, while a StopScope is armed, by setting
/// its flag so that unfinished files can be taken away; a second one then ends it at once.
void install_signal_handlers();

/// One at a time.
class StopScope {
 public:
  StopScope() noexcept;
  ~StopScope();
  /// There is something to tidy up from here on.
  void arm() noexcept;
  StopScope(const StopScope&) = delete;
  StopScope& operator=(const StopScope&) = delete;
  const std::atomic<bool>* flag() const noexcept;
  /// 130 or 143, by the signal that came.
  int exit_code() const noexcept;
};

}  // namespace tandem::cli
