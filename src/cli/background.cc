#include "cli/background.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "base/strings.h"
#include "tandem/error.h"

namespace tandem::cli {
namespace {

constexpr char kBegun = '\0';  // ends what the process in the background has to say to the one in front

[[noreturn]] void fail(const std::string& what, const std::string& path) {
  throw Error(Code::io_error, cat("cannot ", what, " ", path, ": ", std::strerror(errno), "; name another one"));
}

bool write_all(int file, std::string_view text) noexcept {
  while (!text.empty()) {
    const auto count = ::write(file, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(count));
  }
  return true;
}

/// The process in front: repeats what comes through the pipe, and ends as the other one says.
[[noreturn]] void wait_in_front(int pipe, pid_t child) {
  char part[4096];
  for (;;) {
    const auto count = ::read(pipe, part, sizeof part);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;  // it has ended
    const std::string_view said(part, static_cast<std::size_t>(count));
    const std::size_t end = said.find(kBegun);
    write_all(STDERR_FILENO, said.substr(0, end));
    if (end != std::string_view::npos) ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  ::_exit(WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : 1);
}

}  // namespace

PidFile::PidFile(std::string path) : path_(std::move(path)) {
  for (;;) {
    file_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (file_ < 0) fail("write the process's number to", path_);
    if (::flock(file_, LOCK_EX | LOCK_NB) != 0) {
      ::close(file_);
      throw Error(Code::unavailable, cat("a server runs already that holds ", path_,
                                         ": stop it with `tandem stop --pid-file ", path_, "`, or name another file"));
    }
    // A server that stopped just now may have removed what was opened.
    struct stat opened {
    }, there{};
    if (::fstat(file_, &opened) == 0 && ::stat(path_.c_str(), &there) == 0 && opened.st_ino == there.st_ino) break;
    ::close(file_);
  }
  if (::ftruncate(file_, 0) != 0 || !write_all(file_, cat(::getpid(), "\n"))) {
    ::close(file_);
    fail("write the process's number to", path_);
  }
}

PidFile::~PidFile() {
  ::unlink(path_.c_str());
  ::close(file_);
}

int running_pid(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0 && errno == ENOENT) return 0;
  if (file < 0) fail("read", path);
  const bool held = ::flock(file, LOCK_SH | LOCK_NB) != 0;
  ::close(file);
  int pid = 0;
  if (held) std::ifstream(path) >> pid;
  return pid > 0 ? pid : 0;
}

std::string default_pid_file(int port) {
  const char* folder = std::getenv("XDG_RUNTIME_DIR");
  if (folder != nullptr && ::access(folder, W_OK) == 0) return cat(folder, "/tandem-", port, ".pid");
  return cat("/tmp/tandem-", ::getuid(), "-", port, ".pid");
}

Launch::Launch(const std::string& log) {
  out_ = ::open(log.empty() ? "/dev/null" : log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
  if (out_ < 0) fail("write to", log);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) fail("make", "a pipe to the process in the background");
  const pid_t child = ::fork();
  if (child < 0) fail("start", "a process in the background");
  if (child > 0) {
    ::close(ends[1]);
    wait_in_front(ends[0], child);
  }
  ::close(ends[0]);
  pipe_ = ends[1];
  ::setsid();
  if (const int nothing = ::open("/dev/null", O_RDONLY | O_CLOEXEC); nothing >= 0) {
    ::dup2(nothing, STDIN_FILENO);
    ::close(nothing);
  }
  ::dup2(out_, STDOUT_FILENO);
  ::dup2(pipe_, STDERR_FILENO);  // what keeps it from beginning is for whoever started it
}

Launch::~Launch() {
  if (pipe_ >= 0) ::close(pipe_);
  ::close(out_);
}

void Launch::begun() noexcept {
  if (begun_.exchange(true)) return;
  write_all(pipe_, std::string_view(&kBegun, 1));
  ::dup2(out_, STDERR_FILENO);
  ::close(pipe_);
  pipe_ = -1;
}

}  // namespace tandem::cli
