#include "cli/signals.h"

#include <unistd.h>

#include <csignal>

namespace tandem::cli {
namespace {

std::atomic<bool> stop_wanted{false}, armed{false};
std::atomic<int> last_signal{SIGINT};
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int>::is_always_lock_free,
              "a signal handler may only touch lock-free atomics");

void on_signal(int number) {
  last_signal = number;
  if (!armed || stop_wanted.exchange(true)) ::_exit(128 + number);
}

}  // namespace

void install_signal_handlers() {
  struct sigaction action {};
  action.sa_handler = on_signal;  // without SA_RESTART: a read that waits for input must come back
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

StopScope::StopScope() noexcept {
  stop_wanted = false;
}
StopScope::~StopScope() {
  armed = false;
}
void StopScope::arm() noexcept {
  armed = true;
}
const std::atomic<bool>* StopScope::flag() const noexcept {
  return &stop_wanted;
}
int StopScope::exit_code() const noexcept {
  return 128 + last_signal;
}

}  // namespace tandem::cli
