// A server that runs on when its terminal is gone: started with a file that names its process, and stopped by it.
#pragma once

#include <atomic>
#include <string>

namespace tandem::cli {

/// The file that names a server's process. As long as the process lives it holds a lock on the file, so that a number
/// left behind by one that died, and given to a stranger since, is never taken for it.
class PidFile {
 public:
  /// Throws unavailable where a running server holds it, io_error where it cannot be written.
  explicit PidFile(std::string path);
  ~PidFile();  ///< removes the file
  PidFile(const PidFile&) = delete;
  PidFile& operator=(const PidFile&) = delete;

 private:
  const std::string path_;
  int file_ = -1;
};

/// Of a live server that holds the lock on this file; 0: there is none. Throws io_error where the file cannot be read.
int running_pid(const std::string& path);

/// Where the file is unless --pid-file says: in XDG_RUNTIME_DIR, else in /tmp with the user's number; the port tells
/// servers apart.
std::string default_pid_file(int port);

/// A process that was put into the background, as it begins.
class Launch {
 public:
  /// Divides the process. The one in front repeats what the other one says on standard error until that has begun or
  /// ended, and ends like it: this does not return there. The other one returns, without a terminal. Before any thread
  /// is started. log: where its standard output and error go once it has begun, appended; empty: nowhere. Throws
  /// io_error.
  explicit Launch(const std::string& log);
  ~Launch();
  Launch(const Launch&) = delete;
  Launch& operator=(const Launch&) = delete;

  /// All went well: the process in front ends with 0.
  void begun() noexcept;
  bool has_begun() const noexcept { return begun_; }

 private:
  int pipe_ = -1, out_ = -1;
  std::atomic<bool> begun_{false};
};

}  // namespace tandem::cli
