// Lines of a file or of standard input, as they come, in bounded memory.
#pragma once

#include <atomic>
#include <cstddef>
#include <string>
#include <string_view>

namespace tandem::embed {

/// Set by the program to end a job early; null: never.
using StopFlag = const std::atomic<bool>*;

class LineReader {
 public:
  /// path "-": standard input. Throws not_found or io_error, naming the path. A blocking read ends when a signal
  /// arrives and `stop` is set.
  explicit LineReader(const std::string& path, StopFlag stop = nullptr, std::size_t max_line = std::size_t{64} << 20);
  ~LineReader();
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;

  /// The next line without its end ("\n" or "\r\n"); a last line needs none. The view lives until the next call. A
  /// UTF-8 byte order mark before the first line is dropped. False at the end of the file. Throws io_error.
  bool next(std::string_view& line);

  /// The line that next() gave was longer than max_line and has been cut to its beginning.
  bool cut() const noexcept { return cut_; }
  /// Number of the line that next() gave, from 1.
  std::size_t number() const noexcept { return number_; }
  const std::string& name() const noexcept { return name_; }

 private:
  bool fill();

  std::string name_;
  StopFlag stop_;
  std::size_t max_line_;
  int fd_ = -1;
  std::string buffer_;
  std::size_t begin_ = 0, end_ = 0;  // what of the buffer has not been given out
  bool eof_ = false, cut_ = false;
  std::size_t number_ = 0;
};

}  // namespace tandem::embed
