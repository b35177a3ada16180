#include "embed/output_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/strings.h"
#include "tandem/error.h"

namespace tandem::embed {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{1} << 20;

[[noreturn]] void fail(const std::string& path, int error) {
  throw Error(Code::io_error, cat("cannot write ", path, ": ", std::strerror(error)));
}

// Where a path leads: through links, so that their target is replaced and not they. A link may lead to nothing yet.
std::string target_of(const std::string& path) {
  constexpr int kMostLinks = 40;  // as the system follows
  std::filesystem::path target = path;
  std::error_code none;
  for (int i = 0; std::filesystem::is_symlink(target, none); ++i) {
    if (i == kMostLinks) fail(path, ELOOP);
    // A relative link starts from its own folder; an absolute one replaces the whole.
    const std::filesystem::path next = std::filesystem::read_symlink(target, none);
    if (none) fail(path, none.value());
    target = target.parent_path() / next;
  }
  return target.string();
}

std::string folder_of(const std::string& path) {
  const auto folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

}  // namespace

OutputFile::OutputFile(std::string path) : path_(std::move(path)) {
  check_output_path(path_);
  target_ = target_of(path_);
  partial_ = cat(target_, ".partial-", ::getpid());
  fd_ = ::open(partial_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd_ < 0) fail(path_, errno);
  buffer_.reserve(kBufferBytes);
}

OutputFile::~OutputFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(partial_.c_str());
}

void OutputFile::append(std::string_view bytes) {
  size_ += bytes.size();
  if (buffer_.size() + bytes.size() > kBufferBytes) flush();
  if (bytes.size() > kBufferBytes) {
    write_at(flushed_, bytes);
    flushed_ += bytes.size();
  } else {
    buffer_ += bytes;
  }
}

void OutputFile::append(std::span<const std::byte> bytes) {
  append(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

void OutputFile::patch(std::uint64_t offset, std::string_view bytes) {
  if (offset + bytes.size() > size_) throw Error(Code::internal, cat("a patch beyond the end of ", path_));
  flush();
  write_at(offset, bytes);
}

void OutputFile::sync() {
  flush();
  // The data first, then the name: after a crash the name must not stand for an empty file. Some file systems cannot
  // sync (EINVAL); there is nothing to be done about it.
  if (::fsync(fd_) != 0 && errno != EINVAL && errno != ENOTSUP) fail(path_, errno);
}

void OutputFile::commit() {
  sync();
  const int closed = ::close(std::exchange(fd_, -1));
  if (closed != 0 || ::rename(partial_.c_str(), target_.c_str()) != 0) {
    const int e = errno;
    ::unlink(partial_.c_str());
    fail(path_, e);
  }
}

void OutputFile::flush() {
  write_at(flushed_, buffer_);
  flushed_ += buffer_.size();
  buffer_.clear();
}

void OutputFile::write_at(std::uint64_t offset, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0) {
      if (errno == EINTR) continue;
      fail(path_, errno);
    }
    bytes.remove_prefix(static_cast<std::size_t>(written));
    offset += static_cast<std::uint64_t>(written);
  }
}

void check_output_path(const std::string& path) {
  struct stat info {};
  if (path.empty()) throw Error(Code::invalid_argument, "the output has an empty name; give a file's name");
  if (::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) {
    throw Error(Code::io_error, cat("cannot write ", path, ": it is a folder; give a file's name"));
  }
  const std::string folder = folder_of(target_of(path));
  if (::stat(folder.c_str(), &info) != 0) {
    const int e = errno;
    if (e == ENOENT) {
      throw Error(Code::not_found, cat("cannot write ", path, ": folder ", folder, " does not exist; create it first"));
    }
    fail(path, e);
  }
  if (!S_ISDIR(info.st_mode)) throw Error(Code::io_error, cat("cannot write ", path, ": ", folder, " is not a folder"));
  if (::access(folder.c_str(), W_OK | X_OK) != 0) fail(path, errno);
}

void write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      fail(fd == STDOUT_FILENO ? "standard output" : cat("stream ", fd), errno);
    }
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
}

}  // namespace tandem::embed
