// What several models in one process share: threads, devices, the limit on memory, and weights that are equal. There is
// no process-wide state: whoever makes a Context owns it, and it must outlive the Engines made on it.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string_view>

namespace tandem {

struct ContextOptions {
  int threads = 0;         ///< compute threads per CPU replica; 0: the cores this process may use, divided by replicas
  int decode_threads = 0;  ///< threads that decode and resize pictures; 0: as many as `threads`, but one less at a
                           ///< time for each GPU that computes, where cores are many
  bool graphs = true;      ///< on a GPU: record small passes and replay them; off for looking for a fault
  bool pin_threads = false;  ///< bind compute threads to cores
  /// Bind each decode thread to a core that the process may use, from the last one backwards: compute threads take the
  /// first ones.
  bool pin_decode_threads = false;
  /// Where an Engine computes on a processor, decode threads run when the process's others do not need the cores (nice
  /// 19, which counts within the process's group): a pass is not held up by pictures that will wait for it to end. For
  /// servers.
  bool decode_gives_way = false;
  /// Receives the library's log lines: level 0 debug, 1 info, 2 warning, 3 error. Called from several threads.
  std::function<void(int level, std::string_view message)> log = {};
  /// Bytes that the weights and arenas of all Engines on this Context may take together; 0: no limit but the machine's.
  /// An Engine that would exceed it is not loaded: out_of_memory, naming the bytes wanted, used and allowed.
  std::size_t memory_budget = 0;
};

class Context {
 public:
  explicit Context(const ContextOptions& options = {});
  ~Context();
  Context(Context&&) noexcept;
  Context& operator=(Context&&) noexcept;

  const ContextOptions& options() const noexcept;
  /// Bytes of weights and arenas that Engines on this Context hold. Weights that several replicas or Engines share
  /// count once.
  std::size_t memory_used() const;

  struct Impl;
  Impl& impl() noexcept { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem
