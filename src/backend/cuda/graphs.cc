#include "backend/cuda/graphs.h"

#include <algorithm>

#include "base/strings.h"

namespace tandem::backend::cuda {

void Graphs::run(const PassKey& key, const std::function<void()>& pass) {
  if (entries_.find(key) == entries_.end() && entries_.size() >= kMost) forget_oldest();
  Entry& entry = entries_[key];
  entry.used = ++clock_;
  if (!entry.seen || entry.refused) {
    pass();
    entry.seen = true;
    return;
  }
  if (entry.graph.get() == nullptr) record(entry, pass);
  if (entry.refused) return pass();
  health_.check(cudaGraphLaunch(entry.graph.get(), stream_), "replaying a pass");
}

void Graphs::record(Entry& entry, const std::function<void()>& pass) {
  // Other threads of the process may allocate and wait meanwhile.
  const cudaError_t began = cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal);
  if (began != cudaSuccess) return refuse(entry, cudaGetErrorString(began));
  std::string failure;
  try {
    pass();
  } catch (const std::exception& error) {
    failure = error.what();
  }
  cudaGraph_t captured = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(stream_, &captured);
  const Owned<cudaGraph_t, cudaGraphDestroy> owned(captured);
  if (!failure.empty()) return refuse(entry, failure);
  if (ended != cudaSuccess) return refuse(entry, cudaGetErrorString(ended));
  cudaGraphExec_t graph = nullptr;
  const cudaError_t made = cudaGraphInstantiate(&graph, captured, 0);
  if (made != cudaSuccess) return refuse(entry, cudaGetErrorString(made));
  entry.graph = Owned<cudaGraphExec_t, cudaGraphExecDestroy>(graph);
  ++choices_.recorded;
}

void Graphs::refuse(Entry& entry, std::string_view why) {
  static_cast<void>(cudaGetLastError());
  entry.refused = true;
  if (!std::exchange(warned_, true) && warn_) warn_(cat("a pass is issued step by step, which is slower: ", why));
}

void Graphs::forget_oldest() {
  const auto oldest = std::min_element(entries_.begin(), entries_.end(),
                                       [](const auto& a, const auto& b) { return a.second.used < b.second.used; });
  // It may still run.
  if (oldest->second.graph.get() != nullptr) health_.check(cudaStreamSynchronize(stream_), "waiting for the device");
  entries_.erase(oldest);
}

}  // namespace tandem::backend::cuda
