#include "telemetry/json_log.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX's part, which <csignal> does not promise
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/strings.h"
#include "base/thread_pool.h"
#include "tandem/error.h"

namespace tandem::telemetry {
namespace {

constexpr int kPatience = 1000;  // ms, for a pipe that nobody reads

std::uint64_t lines_of(std::string_view text) {
  return static_cast<std::uint64_t>(std::count(text.begin(), text.end(), '\n'));
}

}  // namespace

JsonLog::JsonLog(std::string path, std::atomic<std::uint64_t>& dropped) : path_(std::move(path)), dropped_(dropped) {
  file_ = path_.empty() ? ::dup(STDERR_FILENO) : open();
  if (file_ < 0) {
    throw Error(Code::io_error, cat("cannot write the log to ", path_.empty() ? "standard error" : path_, ": ",
                                    std::strerror(errno), "; name another with --log-file"));
  }
  struct stat kind {};
  regular_ = ::fstat(file_, &kind) == 0 && S_ISREG(kind.st_mode);
  thread_ = start_thread("the log", [this] { work(); });
}

JsonLog::~JsonLog() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
  ::close(file_);
}

int JsonLog::open() const {
  return ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
}

void JsonLog::write(std::string_view line) noexcept {
  try {
    const std::lock_guard lock(mutex_);
    if (waiting_.size() + line.size() + 1 > kMaxWaiting) {
      ++dropped_;
      return;
    }
    waiting_ += line;
    waiting_ += '\n';
  } catch (...) {  // no memory
    ++dropped_;
    return;
  }
  wake_.notify_one();
}

void JsonLog::reopen() noexcept {
  {
    const std::lock_guard lock(mutex_);
    reopen_ = true;
  }
  wake_.notify_one();
}

void JsonLog::flush() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return waiting_.empty() && !busy_ && !reopen_; });
}

void JsonLog::work() {
  // Whoever reads standard error may have gone: that must be an error of write(), not the end of the process.
  sigset_t pipe;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || reopen_ || !waiting_.empty(); });
    if (stopping_ && waiting_.empty()) return;
    const bool anew = std::exchange(reopen_, false);
    std::string lines = std::exchange(waiting_, {});
    busy_ = true;
    lock.unlock();
    std::uint64_t lost = 0;
    if (anew && !path_.empty()) {
      // What was logged before the file was renamed may land in either.
      if (const int fresh = open(); fresh >= 0) {
        ::close(file_);
        file_ = fresh, torn_ = false;
      }
    }
    if (!lines.empty()) lost = put(lines);
    lock.lock();
    dropped_ += lost;
    busy_ = false;
    if (waiting_.empty()) idle_.notify_all();
  }
}

std::uint64_t JsonLog::put(const std::string& lines) {
  std::string_view left = lines;
  std::string with_end;
  if (torn_) left = with_end = "\n" + lines;
  while (!left.empty()) {
    // What is no file may be a pipe that nobody reads: once it is ready it takes PIPE_BUF bytes without waiting.
    pollfd ready{file_, POLLOUT, 0};
    if (!regular_ && ::poll(&ready, 1, kPatience) <= 0) break;
    const auto count =
        ::write(file_, left.data(), regular_ ? left.size() : std::min<std::size_t>(left.size(), PIPE_BUF));
    if (count > 0) {
      torn_ = left[static_cast<std::size_t>(count) - 1] != '\n';
      left.remove_prefix(static_cast<std::size_t>(count));
      continue;
    }
    if (count < 0 && errno == EINTR) continue;
    break;
  }
  return lines_of(left) - (!with_end.empty() && left.size() == with_end.size() ? 1 : 0);
}

}  // namespace tandem::telemetry
