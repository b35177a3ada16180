#include "backend/cuda/matmul_tuning.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "backend/cuda/matmul_problem.h"

namespace tandem::backend::cuda {
namespace {

/// One timing: long enough that neither the events nor a graph's launch matter, and bounded where products are large.
constexpr float kTimedMicroseconds = 1500;
constexpr int kLeastProducts = 4, kMostProducts = 256;
/// The best ones of a first round meet in turns, the median decides.
constexpr std::size_t kFinalists = 6;
constexpr int kRounds = 11;
/// Within this the order in which cuBLASLt proposed them decides: it is noise.
constexpr float kNoise = 0.99F;
/// No part of a split sum is shorter.
constexpr std::int64_t kLeastPart = 128;
constexpr float kNever = std::numeric_limits<float>::infinity();

std::size_t span(std::int64_t rows, std::int64_t stride, std::int64_t columns, DType type) {
  return static_cast<std::size_t>((rows - 1) * stride + columns) * size_of(type);
}

std::size_t output_span(const MatmulCall& m) {
  return span(m.rows, m.ldo, m.outputs, m.type);
}

std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

template <class T>
T config(const cublasLtMatmulAlgo_t& algo, cublasLtMatmulAlgoConfigAttributes_t what) {
  T value{};
  std::size_t written = 0;
  static_cast<void>(cublasLtMatmulAlgoConfigGetAttribute(&algo, what, &value, sizeof value, &written));
  return value;
}

template <class T>
T capability(const cublasLtMatmulAlgo_t& algo, cublasLtMatmulAlgoCapAttributes_t what) {
  T value{};
  std::size_t written = 0;
  static_cast<void>(cublasLtMatmulAlgoCapGetAttribute(&algo, what, &value, sizeof value, &written));
  return value;
}

bool same(const cublasLtMatmulAlgo_t& a, const cublasLtMatmulAlgo_t& b) {
  return std::memcmp(a.data, b.data, sizeof a.data) == 0;
}

/// How far two ways to sum the same products may be apart, relative to the largest result.
float rounding(DType type) {
  return type == DType::f16 ? 0x1p-8F : type == DType::bf16 ? 0x1p-6F : 0x1p-13F;
}

}  // namespace

MatmulTuner::MatmulTuner(Health& health, int device, cudaStream_t stream, cublasLtHandle_t handle, Multiply multiply)
    : health_(health),
      device_(device),
      stream_(stream),
      handle_(handle),
      multiply_(std::move(multiply)),
      begin_(make_event(health, true)),
      end_(make_event(health, true)) {
  int cache = 0;
  health_.check(cudaDeviceGetAttribute(&cache, cudaDevAttrL2CacheSize, device), "asking for the cache's size");
  cache_ = static_cast<std::size_t>(cache);
  health_.check(cudaDeviceGetAttribute(&multiprocessors_, cudaDevAttrMultiProcessorCount, device),
                "asking for the multiprocessors");
}

void MatmulTuner::copy_weight(const MatmulCall& m) {
  const std::size_t bytes = span(m.outputs, m.ldw, m.inputs, m.in);
  // Between two uses of a copy the others pass through the cache, and input and output as well.
  const std::size_t others = span(m.rows, m.ldx, m.inputs, m.in) + output_span(m);
  const std::size_t wanted = 2 * cache_ > others ? (2 * cache_ - others + bytes - 1) / bytes : 1;
  const std::size_t count = std::clamp<std::size_t>(wanted, 1, kMostProducts);
  weights_.assign(1, m.weight);
  if (count == 1) return;
  // Aligned as the weight is.
  const std::size_t offset = reinterpret_cast<std::uintptr_t>(m.weight) % 256, stride = (bytes + 255) / 256 * 256;
  const std::size_t needed = offset + (count - 1) * stride;
  if (copies_.bytes() < needed) {
    health_.check(cudaStreamSynchronize(stream_), "waiting for the device");
    copies_ = {};
    copies_ = allocate_device(health_, device_, needed);
  }
  for (std::size_t i = 0; i + 1 < count; ++i) {
    std::byte* place = copies_.data() + offset + i * stride;
    health_.check(cudaMemcpyAsync(place, m.weight, bytes, cudaMemcpyDeviceToDevice, stream_), "copying a weight");
    weights_.push_back(place);
  }
}

void MatmulTuner::keep(const MatmulCall& m) {
  if (m.residual != m.out) return;
  const std::size_t bytes = output_span(m);
  if (kept_.bytes() < bytes) {
    health_.check(cudaStreamSynchronize(stream_), "waiting for the device");
    kept_ = {};
    kept_ = allocate_device(health_, device_, bytes);
  }
  health_.check(cudaMemcpyAsync(kept_.data(), m.out, bytes, cudaMemcpyDeviceToDevice, stream_), "keeping a residual");
}

void MatmulTuner::restore(const MatmulCall& m) {
  if (m.residual != m.out) return;
  health_.check(cudaMemcpyAsync(m.out, kept_.data(), output_span(m), cudaMemcpyDeviceToDevice, stream_),
                "restoring a residual");
}

void MatmulTuner::add_splits(const MatmulCall& m, std::vector<Candidate>& candidates) const {
  // With two tiles a multiprocessor and more, what splitting gains is less than what its second step costs.
  if (ceil_div(m.rows, 128) * ceil_div(m.outputs, 128) >= 2 * std::int64_t{multiprocessors_}) return;
  Problem p(m, m.rows);
  if (p.good != CUBLAS_STATUS_SUCCESS) return;
  const std::size_t proposed = candidates.size();
  for (std::size_t i = 0; i < proposed; ++i) {
    cublasLtMatmulAlgo_t base = candidates[i].algo;
    if (capability<std::int32_t>(base, CUBLASLT_ALGO_CAP_SPLITK_SUPPORT) == 0) continue;
    const auto schemes = capability<std::uint32_t>(base, CUBLASLT_ALGO_CAP_REDUCTION_SCHEME_MASK);
    for (const std::int32_t parts : {2, 3, 4, 5, 6, 8, 10, 12, 16}) {
      if (m.inputs / parts < kLeastPart) break;
      for (const std::uint32_t scheme : {CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, CUBLASLT_REDUCTION_SCHEME_INPLACE}) {
        // In place the parts are summed in the output's type: sums are float32 here.
        if ((schemes & scheme) == 0 || (scheme == CUBLASLT_REDUCTION_SCHEME_INPLACE && m.type != DType::f32)) continue;
        Candidate split{base, candidates.size(), true, 0};
        cublasLtMatmulHeuristicResult_t result{};
        if (cublasLtMatmulAlgoConfigSetAttribute(&split.algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &parts, sizeof parts) !=
                CUBLAS_STATUS_SUCCESS ||
            cublasLtMatmulAlgoConfigSetAttribute(&split.algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme,
                                                 sizeof scheme) != CUBLAS_STATUS_SUCCESS ||
            cublasLtMatmulAlgoCheck(handle_, &p.desc, &p.w, &p.x, &p.c, &p.d, &split.algo, &result) !=
                CUBLAS_STATUS_SUCCESS ||
            result.workspaceSize > kWorkspaceBytes) {
          continue;
        }
        const auto is_it = [&](const Candidate& other) { return same(other.algo, split.algo); };
        if (std::none_of(candidates.begin(), candidates.end(), is_it)) candidates.push_back(split);
      }
    }
  }
}

MatmulTuner::Graph MatmulTuner::record(const MatmulCall& m, const cublasLtMatmulAlgo_t& algo, int products) {
  // Once before it is recorded: its code is loaded then.
  if (multiply_(m, algo) != CUBLAS_STATUS_SUCCESS) return {};
  health_.check(cudaStreamSynchronize(stream_), "trying an algorithm");
  health_.check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "recording a product");
  MatmulCall call = m;
  bool good = true;
  for (int i = 0; i < products && good; ++i) {
    call.weight = weights_[static_cast<std::size_t>(i) % weights_.size()];
    good = multiply_(call, algo) == CUBLAS_STATUS_SUCCESS;
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

float MatmulTuner::time(const Graph& graph, int products) {
  health_.check(cudaEventRecord(begin_.get(), stream_), "timing");
  health_.check(cudaGraphLaunch(graph.get(), stream_), "timing");
  health_.check(cudaEventRecord(end_.get(), stream_), "timing");
  health_.check(cudaEventSynchronize(end_.get()), "timing");
  float ms = 0;
  health_.check(cudaEventElapsedTime(&ms, begin_.get(), end_.get()), "timing");
  return ms * 1000 / static_cast<float>(products);
}

/// Every copy of the weight is used, so that none is still in the cache when its turn comes again.
int MatmulTuner::products_for(float us) const {
  const int enough = std::clamp(static_cast<int>(kTimedMicroseconds / us) + 1, kLeastProducts, kMostProducts);
  return std::max(enough, static_cast<int>(weights_.size()));
}

cublasLtMatmulAlgo_t MatmulTuner::fastest(const MatmulCall& m, std::vector<cublasLtMatmulAlgo_t> proposed) {
  std::vector<Candidate> candidates;
  candidates.reserve(proposed.size());
  for (const auto& algo : proposed) candidates.push_back({algo, candidates.size(), false, 0});
  add_splits(m, candidates);
  copy_weight(m);
  keep(m);
  int products = 0;
  float best = kNever;
  for (Candidate& c : candidates) {
    c.least = kNever;
    if (products == 0) {
      const Graph few = record(m, c.algo, kLeastProducts);
      if (few.get() == nullptr) continue;
      static_cast<void>(time(few, kLeastProducts));
      products = products_for(time(few, kLeastProducts));
    }
    const Graph graph = record(m, c.algo, products);
    if (graph.get() == nullptr) continue;
    c.least = time(graph, products);
    for (int i = 0; i < 2 && c.least < 2 * best; ++i) c.least = std::min(c.least, time(graph, products));
    best = std::min(best, c.least);
  }
  const auto trusted = std::find_if(candidates.begin(), candidates.end(),
                                    [](const Candidate& c) { return !c.split && c.least < kNever; });
  cublasLtMatmulAlgo_t found = proposed.front();
  if (trusted != candidates.end()) {
    const cublasLtMatmulAlgo_t reference = trusted->algo;
    std::stable_sort(candidates.begin(), candidates.end(),
                     [](const Candidate& a, const Candidate& b) { return a.least < b.least; });
    candidates.resize(std::min(candidates.size(), kFinalists));
    found = best_of(m, candidates, reference, products);
  }
  restore(m);
  return found;
}

cublasLtMatmulAlgo_t MatmulTuner::best_of(const MatmulCall& m, std::vector<Candidate> candidates,
                                          const cublasLtMatmulAlgo_t& reference, int products) {
  std::erase_if(candidates, [](const Candidate& c) { return c.least == kNever; });
  std::vector<Graph> graphs;
  graphs.reserve(candidates.size());
  for (const Candidate& c : candidates) graphs.push_back(record(m, c.algo, products));
  std::vector<std::vector<float>> times(candidates.size());
  for (int round = 0; round < kRounds; ++round) {
    for (std::size_t i = 0; i < graphs.size(); ++i) {
      times[i].push_back(graphs[i].get() != nullptr ? time(graphs[i], products) : kNever);
    }
  }
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    std::sort(times[i].begin(), times[i].end());
    candidates[i].least = times[i][times[i].size() / 2];
  }
  while (!candidates.empty()) {
    float least = kNever;
    for (const Candidate& c : candidates) least = std::min(least, c.least);
    auto chosen = candidates.end();
    for (auto c = candidates.begin(); c != candidates.end(); ++c) {
      if (c->least * kNoise <= least && (chosen == candidates.end() || c->order < chosen->order)) chosen = c;
    }
    // What cuBLASLt proposed it answers for; what was configured here has to show that it computes the same.
    if (!chosen->split || agree(m, chosen->algo, reference)) return chosen->algo;
    candidates.erase(chosen);
  }
  return reference;
}

std::vector<float> MatmulTuner::result(const MatmulCall& m, const cublasLtMatmulAlgo_t& algo) {
  restore(m);
  std::vector<std::byte> bytes(output_span(m));
  if (multiply_(m, algo) != CUBLAS_STATUS_SUCCESS) return {};
  health_.check(cudaMemcpyAsync(bytes.data(), m.out, bytes.size(), cudaMemcpyDeviceToHost, stream_), "comparing");
  health_.check(cudaStreamSynchronize(stream_), "comparing");
  std::vector<float> values(static_cast<std::size_t>(m.rows * m.outputs));
  const ConstView from(bytes.data(), m.type, {m.rows, m.outputs}, m.ldo);
  convert(from, {reinterpret_cast<std::byte*>(values.data()), DType::f32, {m.rows, m.outputs}});
  return values;
}

bool MatmulTuner::agree(const MatmulCall& m, const cublasLtMatmulAlgo_t& a, const cublasLtMatmulAlgo_t& b) {
  const std::vector<float> x = result(m, a), y = result(m, b);
  float largest = 0, apart = 0;
  for (std::size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
    // Where a sum leaves the type's range, rounding says on which side.
    if (!std::isfinite(x[i]) || !std::isfinite(y[i])) continue;
    largest = std::max(largest, std::abs(y[i]));
    apart = std::max(apart, std::abs(x[i] - y[i]));
  }
  return x.size() == y.size() && !x.empty() && apart <= rounding(m.type) * largest;
}

}  // namespace tandem::backend::cuda
