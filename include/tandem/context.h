// What several models in one process share: the limit on threads and memory. There is no process-wide state: whoever
// makes a Context owns it, and it must outlive the Engines made on it.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string_view>

namespace tandem {

struct ContextOptions {
  int threads = 0;           ///< compute threads per CPU replica; 0: all cores this process may use
  int decode_threads = 0;    ///< threads that decode and resize pictures; 0: as many as `threads`
  bool pin_threads = false;  ///< bind compute threads to cores
  /// Receives the library's log lines: level 0 debug, 1 info, 2 warning, 3 error. Called from several threads.
  std::function<void(int level, std::string_view message)> log = {};
  std::size_t memory_budget = 0;  ///< bytes that weights and arenas may take together; 0: no limit but the machine's
};

class Context {
 public:
  explicit Context(const ContextOptions& options = {});
  ~Context();
  Context(Context&&) noexcept;
  Context& operator=(Context&&) noexcept;

  const ContextOptions& options() const noexcept;

  struct Impl;
  Impl& impl() noexcept { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem
