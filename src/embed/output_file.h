// A file that appears under its name only when it is whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace tandem::embed {

/// Written to "NAME.partial-PID" beside the final name, moved there by commit(); destroyed without commit it is
/// removed. Where the name is a link, what it leads to is replaced, and the link stays. Buffered; one thread. Parent
/// folders are not created.
class OutputFile {
 public:
  /// Throws io_error, or not_found when the folder does not exist.
  explicit OutputFile(std::string path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void append(std::string_view bytes);
  void append(std::span<const std::byte> bytes);
  /// Overwrites bytes that were appended before (a header whose numbers are known at the end).
  void patch(std::uint64_t offset, std::string_view bytes);
  /// Writes what is buffered and waits until it is on the disk. Throws io_error.
  void sync();
  /// sync(), then moves the file to its name. Throws io_error; the file is then removed.
  void commit();

  const std::string& path() const noexcept { return path_; }
  std::uint64_t size() const noexcept { return size_; }

 private:
  void flush();
  void write_at(std::uint64_t offset, std::string_view bytes);

  std::string path_, target_, partial_;  // target_: where a link leads
  int fd_ = -1;
  std::string buffer_;
  std::uint64_t flushed_ = 0, size_ = 0;
};

/// Fails early, before hours of work, where OutputFile would fail late: the folder of `path` must exist and be
/// writable, and `path` must not be a folder. Throws not_found or io_error that says what to do.
void check_output_path(const std::string& path);

/// Appends to a stream of the process (1: standard output), all of it. Throws io_error.
void write_all(int fd, std::string_view bytes);

}  // namespace tandem::embed
