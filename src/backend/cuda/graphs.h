// Passes that come again, recorded as CUDA graphs: the host issues one launch for all their operations.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string_view>

#include "backend/cuda/runtime.h"

namespace tandem::backend::cuda {

/// Used by one thread at a time, on one stream. Bounded: the pass that was not wanted for longest is forgotten first.
class Graphs {
 public:
  using Warn = std::function<void(std::string_view)>;
  static constexpr std::size_t kMost = 64;

  /// choices: where recorded passes are counted.
  Graphs(Health& health, cudaStream_t stream, Choices& choices, Warn warn)
      : health_(health), stream_(stream), choices_(choices), warn_(std::move(warn)) {}

  /// The first time, a key's pass is issued as it is: algorithms are chosen and memory is made then. The second time it
  /// is recorded, from then on replayed. A pass that cannot be recorded is always issued as it is, and a warning says
  /// so once.
  void run(const PassKey& key, const std::function<void()>& pass);

 private:
  struct Entry {
    Owned<cudaGraphExec_t, cudaGraphExecDestroy> graph;
    bool seen = false, refused = false;
    std::uint64_t used = 0;
  };
  void record(Entry& entry, const std::function<void()>& pass);
  void refuse(Entry& entry, std::string_view why);
  void forget_oldest();

  Health& health_;
  cudaStream_t stream_;
  Choices& choices_;
  Warn warn_;
  std::map<PassKey, Entry> entries_;
  std::uint64_t clock_ = 0;
  bool warned_ = false;
};

}  // namespace tandem::backend::cuda
