#include "embed/line_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/strings.h"
#include "tandem/error.h"

namespace tandem::embed {
namespace {

constexpr std::size_t kReadBytes = std::size_t{1} << 20;

}  // namespace

LineReader::LineReader(const std::string& path, StopFlag stop, std::size_t max_line)
    : name_(path == "-" ? "standard input" : path), stop_(stop), max_line_(max_line) {
  if (path == "-") {
    fd_ = STDIN_FILENO;
    return;
  }
  fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat info {};
  if (fd_ >= 0 && ::fstat(fd_, &info) == 0 && S_ISDIR(info.st_mode)) {
    ::close(std::exchange(fd_, -1));
    throw Error(Code::io_error, cat("cannot read ", path, ": it is a folder"));
  }
  if (fd_ < 0) {
    const int e = errno;
    throw Error(e == ENOENT || e == ENOTDIR ? Code::not_found : Code::io_error,
                cat("cannot open ", path, ": ", std::strerror(e)));
  }
}

LineReader::~LineReader() {
  if (fd_ > STDIN_FILENO) ::close(fd_);
}

bool LineReader::fill() {
  if (eof_) return false;
  if (begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  if (buffer_.size() - end_ < kReadBytes) buffer_.resize(std::max(buffer_.size() * 2, end_ + kReadBytes));
  for (;;) {
    if (stop_ != nullptr && stop_->load()) break;
    const ssize_t got = ::read(fd_, buffer_.data() + end_, buffer_.size() - end_);
    if (got > 0) {
      end_ += static_cast<std::size_t>(got);
      return true;
    }
    if (got == 0) break;
    if (errno != EINTR) throw Error(Code::io_error, cat("cannot read ", name_, ": ", std::strerror(errno)));
  }
  eof_ = true;
  return false;
}

bool LineReader::next(std::string_view& line) {
  std::size_t searched = 0;
  cut_ = false;
  for (;;) {
    const char* start = buffer_.data() + begin_;
    const void* found =
        end_ - begin_ > searched ? std::memchr(start + searched, '\n', end_ - begin_ - searched) : nullptr;
    if (found != nullptr) {
      line = {start, static_cast<std::size_t>(static_cast<const char*>(found) - start)};
      begin_ += line.size() + 1;
      break;
    }
    searched = end_ - begin_;
    if (searched > max_line_) {
      // Keep the beginning for the report, skip the rest.
      cut_ = true;
      end_ = begin_ + max_line_;
      searched = max_line_;
    }
    if (!fill()) {
      if (begin_ == end_) return false;
      line = {buffer_.data() + begin_, end_ - begin_};
      begin_ = end_;
      break;
    }
  }
  if (cut_) line = line.substr(0, max_line_);
  if (line.ends_with('\r')) line.remove_suffix(1);
  if (++number_ == 1 && line.starts_with("\xEF\xBB\xBF")) line.remove_prefix(3);
  return true;
}

}  // namespace tandem::embed
