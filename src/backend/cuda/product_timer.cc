#include "backend/cuda/product_timer.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace tandem::backend::cuda {
namespace {

/// One timing: long enough that neither the events nor a graph's launch matter, and bounded where products are large.
constexpr float kTimedMicroseconds = 1500;
constexpr int kLeastProducts = 4, kMostProducts = 256;
/// The best ones of a first round meet in turns, the median decides.
constexpr std::size_t kFinalists = 6;
constexpr int kRounds = 11;
/// Within this two are equally fast.
constexpr float kNoise = 0.99F;
constexpr float kNever = std::numeric_limits<float>::infinity();

std::size_t span(std::int64_t rows, std::int64_t stride, std::int64_t columns, DType type) {
  return static_cast<std::size_t>((rows - 1) * stride + columns) * size_of(type);
}

}  // namespace

ProductTimer::ProductTimer(Health& health, int device, cudaStream_t stream, AheadLimits ahead)
    : health_(health),
      device_(device),
      stream_(stream),
      ahead_(ahead),
      begin_(make_event(health, true)),
      end_(make_event(health, true)) {
  int cache = 0;
  health_.check(cudaDeviceGetAttribute(&cache, cudaDevAttrL2CacheSize, device), "asking for the cache's size");
  cache_ = static_cast<std::size_t>(cache);
}

std::size_t ProductTimer::output_bytes(const MatmulCall& m) {
  return span(m.rows, m.ldo, m.outputs, m.type);
}

void ProductTimer::copy_weight() {
  const MatmulCall& m = call_;
  const std::size_t bytes = span(m.outputs, m.ldw, m.inputs, m.in);
  // Between two uses of a copy the others pass through the cache, and input and output as well.
  const std::size_t others = span(m.rows, m.ldx, m.inputs, m.in) + output_bytes(m);
  const std::size_t wanted = 2 * cache_ > others ? (2 * cache_ - others + bytes - 1) / bytes : 1;
  const std::size_t count = std::clamp<std::size_t>(wanted, 1, kMostProducts);
  weights_.assign(1, m.weight);
  if (count == 1) return;
  // Aligned as the weight is.
  const std::size_t offset = reinterpret_cast<std::uintptr_t>(m.weight) % 256, stride = (bytes + 255) / 256 * 256;
  const std::size_t needed = offset + (count - 1) * stride;
  make_room(health_, device_, stream_, needed, copies_);
  for (std::size_t i = 0; i + 1 < count; ++i) {
    std::byte* place = copies_.data() + offset + i * stride;
    health_.check(cudaMemcpyAsync(place, m.weight, bytes, cudaMemcpyDeviceToDevice, stream_), "copying a weight");
    weights_.push_back(place);
  }
}

void ProductTimer::begin(const MatmulCall& m) {
  call_ = m;
  copy_weight();
  if (m.residual != m.out) return;
  const std::size_t bytes = output_bytes(m);
  make_room(health_, device_, stream_, bytes, kept_);
  health_.check(cudaMemcpyAsync(kept_.data(), m.out, bytes, cudaMemcpyDeviceToDevice, stream_), "keeping a residual");
}

void ProductTimer::restore() {
  if (call_.residual != call_.out) return;
  health_.check(cudaMemcpyAsync(call_.out, kept_.data(), output_bytes(call_), cudaMemcpyDeviceToDevice, stream_),
                "restoring a residual");
}

void ProductTimer::end() {
  restore();
  // Large ones leave the memory to the pass.
  constexpr std::size_t kLarge = std::size_t{256} << 20;
  if (kept_.bytes() <= kLarge && copies_.bytes() <= kLarge) return;
  health_.check(cudaStreamSynchronize(stream_), "waiting for the device");
  kept_ = {}, copies_ = {};
}

ProductTimer::Graph ProductTimer::record(const Way& way, int products) {
  // Once before it is recorded: its code is loaded then, and memory is made.
  if (!way(call_)) {
    static_cast<void>(cudaGetLastError());
    return {};
  }
  health_.check(cudaStreamSynchronize(stream_), "trying an algorithm");
  health_.check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "recording a product");
  bool good = true;
  MatmulCall call = call_;
  for (int i = 0; i < products && good; ++i) {
    call.weight = weights_[static_cast<std::size_t>(i / in_a_row()) % weights_.size()];
    good = way(call);
  }
  cudaGraph_t captured = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(stream_, &captured);
  const Owned<cudaGraph_t, cudaGraphDestroy> owned(captured);
  cudaGraphExec_t graph = nullptr;
  if (!good || ended != cudaSuccess || cudaGraphInstantiate(&graph, captured, 0) != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    return {};
  }
  return Graph(graph);
}

float ProductTimer::time(const Graph& graph, int products) {
  health_.check(cudaEventRecord(begin_.get(), stream_), "timing");
  health_.check(cudaGraphLaunch(graph.get(), stream_), "timing");
  health_.check(cudaEventRecord(end_.get(), stream_), "timing");
  health_.check(cudaEventSynchronize(end_.get()), "timing");
  float ms = 0;
  health_.check(cudaEventElapsedTime(&ms, begin_.get(), end_.get()), "timing");
  return ms * 1000 / static_cast<float>(products);
}

int ProductTimer::in_a_row() const noexcept {
  const std::size_t bytes = span(call_.outputs, call_.ldw, call_.inputs, call_.in);
  return call_.rows <= ahead_.rows && bytes <= ahead_.bytes ? 2 : 1;
}

/// Every copy of the weight is used, so that none is still in the cache when its turn comes again.
int ProductTimer::products_for(float us) const {
  const int enough = std::clamp(static_cast<int>(kTimedMicroseconds / us) + 1, kLeastProducts, kMostProducts);
  const int copies = static_cast<int>(weights_.size()) * in_a_row();
  return std::max(enough, copies);
}

/// The least time of each; of slow ones only the first. `products`: how many a timing takes.
std::vector<float> ProductTimer::first_round(const std::vector<Way>& ways, int& products) {
  std::vector<float> least(ways.size(), kNever);
  float best = kNever;
  for (std::size_t i = 0; i < ways.size(); ++i) {
    if (products == 0) {
      const Graph few = record(ways[i], kLeastProducts);
      if (few.get() == nullptr) continue;
      static_cast<void>(time(few, kLeastProducts));
      products = products_for(time(few, kLeastProducts));
    }
    const Graph graph = record(ways[i], products);
    if (graph.get() == nullptr) continue;
    least[i] = time(graph, products);
    for (int again = 0; again < 2 && least[i] < 2 * best; ++again) {
      least[i] = std::min(least[i], time(graph, products));
    }
    best = std::min(best, least[i]);
  }
  return least;
}

std::vector<std::size_t> ProductTimer::rank(const std::vector<Way>& ways) {
  int products = 0;
  std::vector<float> us = first_round(ways, products);
  std::vector<std::size_t> order(ways.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto faster = [&](std::size_t a, std::size_t b) { return us[a] < us[b]; };
  std::stable_sort(order.begin(), order.end(), faster);
  std::erase_if(order, [&](std::size_t i) { return us[i] == kNever; });
  std::vector<std::size_t> finalists(order.begin(),
                                     order.begin() + static_cast<std::ptrdiff_t>(std::min(order.size(), kFinalists)));
  std::vector<Graph> graphs;
  graphs.reserve(finalists.size());
  for (const std::size_t i : finalists) graphs.push_back(record(ways[i], products));
  std::vector<std::vector<float>> times(finalists.size());
  for (int round = 0; round < kRounds; ++round) {
    for (std::size_t k = 0; k < finalists.size(); ++k) {
      times[k].push_back(graphs[k].get() != nullptr ? time(graphs[k], products) : kNever);
    }
  }
  for (std::size_t k = 0; k < finalists.size(); ++k) {
    std::sort(times[k].begin(), times[k].end());
    us[finalists[k]] = times[k][times[k].size() / 2];
  }
  // One by one: of those within the noise of the fastest that is left, the one that was given first.
  std::vector<std::size_t> ranked;
  while (!finalists.empty()) {
    const float least = us[*std::min_element(finalists.begin(), finalists.end(), faster)];
    auto next = finalists.end();
    for (auto at = finalists.begin(); at != finalists.end(); ++at) {
      if (us[*at] * kNoise <= least && (next == finalists.end() || *at < *next)) next = at;
    }
    ranked.push_back(*next);
    finalists.erase(next);
  }
  for (const std::size_t i : order) {
    if (std::find(ranked.begin(), ranked.end(), i) == ranked.end()) ranked.push_back(i);
  }
  return ranked;
}

}  // namespace tandem::backend::cuda
