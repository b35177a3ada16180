#include "backend/cuda/matmul_tuning.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "backend/cuda/matmul_problem.h"
#include "backend/cuda/product_timer.h"

namespace tandem::backend::cuda {
namespace {

/// No part of a split sum is shorter.
constexpr std::int64_t kLeastPart = 128;
/// The sums of so many proposals are split: what comes behind them seldom wins.
constexpr std::size_t kMostSplit = 16;

template <class T>
T capability(const cublasLtMatmulAlgo_t& algo, cublasLtMatmulAlgoCapAttributes_t what) {
  T value{};
  std::size_t written = 0;
  static_cast<void>(cublasLtMatmulAlgoCapGetAttribute(&algo, what, &value, sizeof value, &written));
  return value;
}

template <class T>
bool configure(cublasLtMatmulAlgo_t& algo, cublasLtMatmulAlgoConfigAttributes_t what, T value) {
  return cublasLtMatmulAlgoConfigSetAttribute(&algo, what, &value, sizeof value) == CUBLAS_STATUS_SUCCESS;
}

bool same(const cublasLtMatmulAlgo_t& a, const cublasLtMatmulAlgo_t& b) {
  return std::memcmp(a.data, b.data, sizeof a.data) == 0;
}

/// How far two ways to sum the same products may be apart, relative to the largest result.
float rounding(DType type) {
  return type == DType::f16 ? 0x1p-8F : type == DType::bf16 ? 0x1p-6F : 0x1p-13F;
}

std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

}  // namespace

MatmulTuner::MatmulTuner(Health& health, int device, cudaStream_t stream, cublasLtHandle_t handle, ProductTimer& timer,
                         Multiply multiply)
    : health_(health), stream_(stream), handle_(handle), timer_(timer), multiply_(std::move(multiply)) {
  health_.check(cudaDeviceGetAttribute(&multiprocessors_, cudaDevAttrMultiProcessorCount, device),
                "asking for the multiprocessors");
}

void MatmulTuner::add_splits(const MatmulCall& m, std::vector<cublasLtMatmulAlgo_t>& algorithms) const {
  // With two tiles a multiprocessor and more, what splitting gains is less than what its second step costs.
  if (ceil_div(m.rows, 128) * ceil_div(m.outputs, 128) >= 2 * std::int64_t{multiprocessors_}) return;
  Problem p(m, m.rows);
  if (p.good != CUBLAS_STATUS_SUCCESS) return;
  const std::size_t proposed = std::min(algorithms.size(), kMostSplit);
  for (std::size_t i = 0; i < proposed; ++i) {
    const cublasLtMatmulAlgo_t base = algorithms[i];
    if (capability<std::int32_t>(base, CUBLASLT_ALGO_CAP_SPLITK_SUPPORT) == 0) continue;
    const auto schemes = capability<std::uint32_t>(base, CUBLASLT_ALGO_CAP_REDUCTION_SCHEME_MASK);
    for (const std::int32_t parts : {2, 3, 4, 5, 6, 8, 10, 12, 16}) {
      if (m.inputs / parts < kLeastPart) break;
      for (const std::uint32_t scheme : {CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, CUBLASLT_REDUCTION_SCHEME_INPLACE}) {
        // In place the parts are summed in the output's type: sums are float32 here.
        if ((schemes & scheme) == 0 || (scheme == CUBLASLT_REDUCTION_SCHEME_INPLACE && m.type != DType::f32)) continue;
        cublasLtMatmulAlgo_t split = base;
        cublasLtMatmulHeuristicResult_t result{};
        if (!configure(split, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, parts) ||
            !configure(split, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, scheme) ||
            cublasLtMatmulAlgoCheck(handle_, &p.desc, &p.w, &p.x, &p.c, &p.d, &split, &result) !=
                CUBLAS_STATUS_SUCCESS ||
            result.workspaceSize > kWorkspaceBytes) {
          continue;
        }
        const auto is_it = [&](const cublasLtMatmulAlgo_t& other) { return same(other, split); };
        if (std::none_of(algorithms.begin(), algorithms.end(), is_it)) algorithms.push_back(split);
      }
    }
  }
}

cublasLtMatmulAlgo_t MatmulTuner::fastest(const MatmulCall& m, const std::vector<cublasLtMatmulAlgo_t>& proposed) {
  std::vector<cublasLtMatmulAlgo_t> algorithms = proposed;
  add_splits(m, algorithms);
  std::vector<ProductTimer::Way> ways;
  ways.reserve(algorithms.size());
  for (const auto& algo : algorithms) {
    ways.emplace_back([&](const MatmulCall& call) { return multiply_(call, algo) == CUBLAS_STATUS_SUCCESS; });
  }
  timer_.begin(m);
  const std::vector<std::size_t> ranked = timer_.rank(ways);
  // What cuBLASLt proposed it answers for; what was configured here has to show that it computes the same.
  const auto trusted = std::find_if(ranked.begin(), ranked.end(), [&](std::size_t i) { return i < proposed.size(); });
  cublasLtMatmulAlgo_t found = proposed.front();
  if (trusted != ranked.end()) {
    const auto agrees = [&](std::size_t i) { return agree(m, algorithms[i], algorithms[*trusted]); };
    found = algorithms[*std::find_if(ranked.begin(), trusted, agrees)];
  }
  timer_.end();
  return found;
}

std::vector<float> MatmulTuner::result(const MatmulCall& m, const cublasLtMatmulAlgo_t& algo) {
  timer_.restore();
  std::vector<std::byte> bytes(ProductTimer::output_bytes(m));
  if (multiply_(m, algo) != CUBLAS_STATUS_SUCCESS) return {};
  health_.check(cudaMemcpyAsync(bytes.data(), m.out, bytes.size(), cudaMemcpyDeviceToHost, stream_), "comparing");
  health_.check(cudaStreamSynchronize(stream_), "comparing");
  std::vector<float> values(static_cast<std::size_t>(m.rows * m.outputs));
  if (m.type == DType::i32) {  // packed, and of so few bits that float32 has them
    const auto* sums = reinterpret_cast<const std::int32_t*>(bytes.data());
    std::transform(sums, sums + values.size(), values.begin(), [](std::int32_t v) { return static_cast<float>(v); });
    return values;
  }
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
