// Lines of JSON to a file or to standard error, written by a thread of their own: whoever logs never waits, and a disk
// that is full costs lines, which are counted, and nothing else.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>

namespace tandem::telemetry {

class JsonLog {
 public:
  /// Lines of this many bytes together may wait for the disk; beyond them lines are dropped.
  static constexpr std::size_t kMaxWaiting = std::size_t{8} << 20;

  /// path: a file to append to; empty: standard error. dropped: counts lines that were lost; must outlive this. Throws
  /// io_error where the file cannot be opened.
  JsonLog(std::string path, std::atomic<std::uint64_t>& dropped);
  ~JsonLog();  ///< writes what waits
  JsonLog(const JsonLog&) = delete;
  JsonLog& operator=(const JsonLog&) = delete;

  /// One line, without its end. Never waits, never throws.
  void write(std::string_view line) noexcept;
  /// Opens the file anew before the next line: it was renamed. Where that fails the old one stays.
  void reopen() noexcept;
  /// Waits until what was written before has been handed to the system, or was dropped.
  void flush();

 private:
  void work();
  /// Everything, or as much as the system takes. Returns the lines that were lost.
  std::uint64_t put(const std::string& lines);
  int open() const;

  const std::string path_;
  std::atomic<std::uint64_t>& dropped_;
  int file_ = -1;
  bool regular_ = false;  ///< a file on a disk, whose writes end
  bool torn_ = false;     ///< the file ends in a part of a line
  std::mutex mutex_;
  std::condition_variable wake_, idle_;
  std::string waiting_;
  bool busy_ = false, stopping_ = false, reopen_ = false;
  std::thread thread_;
};

}  // namespace tandem::telemetry
