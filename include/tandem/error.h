// The one exception type of the library.
//
// Every mistake of the caller and every failure of a device or a file is thrown as `tandem::Error`. Boundaries map
// its code once: the server to an HTTP status, the command line to an exit code. The message is one line that says
// what was wrong, with the value, and what to do about it.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace tandem {

/// What kind of failure an Error is; stable names, see code_name().
enum class Code {
  invalid_argument,   ///< the caller's value is wrong
  not_found,          ///< a file, model or name does not exist
  unsupported,        ///< understood, but this build, device or version cannot do it
  bad_data,           ///< a file or request is corrupt or malformed
  too_large,          ///< a stated limit was exceeded
  overloaded,         ///< a bounded queue is full: try again later
  deadline_exceeded,  ///< the caller's deadline passed before the work was done
  cancelled,          ///< the caller withdrew the request
  unavailable,        ///< loading, draining or no healthy device
  out_of_memory,      ///< the memory budget or the device's memory does not suffice
  device_failure,     ///< the device or its driver failed
  io_error,           ///< reading or writing failed
  internal,           ///< a bug in this library
};

/// "invalid_argument", "not_found", … exactly as the enumerator is written.
std::string_view code_name(Code code) noexcept;

/// Where an Error was thrown (std::source_location is missing in some supported compilers).
struct Where {
  const char* file;
  int line;
  static constexpr Where here(const char* f = __builtin_FILE(), int l = __builtin_LINE()) { return {f, l}; }
};

/// Of default visibility: it is thrown across the boundaries of shared libraries.
class __attribute__((visibility("default"))) Error : public std::runtime_error {
 public:
  Error(Code code, const std::string& message, Where where = Where::here())
      : std::runtime_error(message), code_(code), where_(where) {}
  Code code() const noexcept { return code_; }
  Where where() const noexcept { return where_; }

 private:
  Code code_;
  Where where_;
};

}  // namespace tandem
