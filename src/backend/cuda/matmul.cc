#include "backend/cuda/matmul.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <string_view>

#include "backend/cuda/matmul_problem.h"
#include "backend/cuda/matmul_tuning.h"
#include "base/strings.h"

namespace tandem::backend::cuda {
namespace {

/// Texts have any number of rows: what was chosen for shapes that no longer come must not pile up.
constexpr std::size_t kMostChosen = 4096;
/// Of its lines in a tuning file.
constexpr std::string_view kTunedName = "cublasLt";
/// What is timed of a shape, before its split products.
constexpr int kMostProposed = 48;

std::uint32_t alignment(const void* p, std::int64_t stride, DType type) {
  const auto bits = reinterpret_cast<std::uintptr_t>(p) | (static_cast<std::uintptr_t>(stride) * size_of(type)) | 256U;
  return static_cast<std::uint32_t>(bits & (~bits + 1));  // the lowest bit
}

}  // namespace

std::int64_t row_bucket(std::int64_t rows) {
  if (rows <= 256) return rows;
  const std::int64_t step = static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(rows - 1))) / 16;
  return (rows + step - 1) / step * step;
}

Matmul::Matmul(Health& health, int device, cudaStream_t stream, Choices& choices)
    : health_(health),
      device_(device),
      stream_(stream),
      workspace_(allocate_device(health, device, kWorkspaceBytes)),
      choices_(choices) {
  const cublasStatus_t made = cublasLtCreate(&handle_);
  if (made != CUBLAS_STATUS_SUCCESS) health_.fail(cat("cuBLASLt cannot start: ", cublasLtGetStatusString(made)));
}

Matmul::~Matmul() {
  if (handle_ != nullptr) static_cast<void>(cublasLtDestroy(handle_));
}

void Matmul::check(cublasStatus_t status, const MatmulCall& m, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  health_.fail(cat("cuBLASLt: ", what, " [", m.rows, ", ", m.inputs, "] x [", m.outputs, ", ", m.inputs, "]^T in ",
                   to_string(m.in), " to ", to_string(m.type), ": ", cublasLtGetStatusString(status)));
}

cublasStatus_t Matmul::ask(const MatmulCall& m, std::int64_t rows, cublasLtMatmulHeuristicResult_t* results, int most,
                           int& found) {
  Problem p(m, rows);
  cublasLtMatmulPreferenceOpaque_t preference;
  cublasStatus_t good = p.good;
  if (good == CUBLAS_STATUS_SUCCESS) good = cublasLtMatmulPreferenceInit(&preference);
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t what, auto value) {
    if (good != CUBLAS_STATUS_SUCCESS) return;
    good = cublasLtMatmulPreferenceSetAttribute(&preference, what, &value, sizeof value);
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspaceBytes);
  const std::uint32_t out = alignment(m.out, m.ldo, m.type);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment(m.weight, m.ldw, m.in));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment(m.x, m.ldx, m.in));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, m.residual != nullptr ? alignment(m.residual, m.ldr, m.type) : out);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, out);
  if (good != CUBLAS_STATUS_SUCCESS) return good;
  return cublasLtMatmulAlgoGetHeuristic(handle_, &p.desc, &p.w, &p.x, &p.c, &p.d, &preference, most, results, &found);
}

int Matmul::propose(const MatmulCall& m, std::int64_t rows, cublasLtMatmulHeuristicResult_t* results, int most) {
  int found = 0;
  check(ask(m, rows, results, most, found), m, "no algorithm for");
  if (found == 0) check(CUBLAS_STATUS_NOT_SUPPORTED, m, "no algorithm for");
  return found;
}

bool Matmul::supports(const MatmulCall& m) {
  cublasLtMatmulHeuristicResult_t result{};
  int found = 0;
  return ask(m, m.rows, &result, 1, found) == CUBLAS_STATUS_SUCCESS && found > 0;
}

Matmul::Choice Matmul::choose(const MatmulCall& m, std::int64_t rows) {
  if (const auto found = tuned_.find(product_shape(m)); found != tuned_.end()) {
    Problem p(m, m.rows);
    cublasLtMatmulHeuristicResult_t result{};
    if (p.good == CUBLAS_STATUS_SUCCESS &&
        cublasLtMatmulAlgoCheck(handle_, &p.desc, &p.w, &p.x, &p.c, &p.d, &found->second, &result) ==
            CUBLAS_STATUS_SUCCESS &&
        result.workspaceSize <= kWorkspaceBytes) {
      return {found->second, true};
    }
  }
  cublasLtMatmulHeuristicResult_t result{};
  propose(m, rows, &result, 1);
  return {result.algo, false};
}

void Matmul::start_tuning(ProductTimer& timer) {
  tuned_.clear(), chosen_.clear();
  tuner_ = std::make_unique<MatmulTuner>(
      health_, device_, stream_, handle_, timer,
      [this](const MatmulCall& m, const cublasLtMatmulAlgo_t& algo) { return multiply(m, algo); });
}

cublasLtMatmulAlgo_t Matmul::fastest(const MatmulCall& m) {
  std::vector<cublasLtMatmulHeuristicResult_t> results(kMostProposed);
  results.resize(static_cast<std::size_t>(propose(m, m.rows, results.data(), kMostProposed)));
  std::vector<cublasLtMatmulAlgo_t> proposed;
  for (const auto& result : results) {
    if (result.state == CUBLAS_STATUS_SUCCESS) proposed.push_back(result.algo);
  }
  if (proposed.empty()) check(CUBLAS_STATUS_NOT_SUPPORTED, m, "no algorithm for");
  return tuner_->fastest(m, proposed);
}

ProductShape product_shape(const MatmulCall& m) {
  const std::int64_t kind = static_cast<std::int64_t>(m.in) * 64 + static_cast<std::int64_t>(m.type) * 8 +
                            (m.residual != nullptr ? 4 : 0) + (m.bias != nullptr ? 2 : 0) + (m.tf32 ? 1 : 0);
  return {row_bucket(m.rows), m.outputs, m.inputs, kind};
}

std::string Matmul::tuned() const {
  std::string out;
  for (const auto& [shape, algo] : tuned_) {
    std::string hex;
    for (const std::uint64_t word : algo.data) {
      char text[17];
      std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(word));
      hex += text;
    }
    out += tuned_line(kTunedName, cublasLtGetVersion(), shape, hex);
  }
  return out;
}

int Matmul::take_tuned(const std::string& text) {
  return take_tuned_lines(
      text, kTunedName, cublasLtGetVersion(), [&](const ProductShape& shape, const std::string& hex) {
        cublasLtMatmulAlgo_t algo{};
        constexpr std::size_t kWords = std::size(decltype(algo.data){});
        if (hex.size() != 16 * kWords || hex.find_first_not_of("0123456789abcdef") != std::string::npos) return false;
        for (std::size_t i = 0; i < kWords; ++i) algo.data[i] = std::stoull(hex.substr(16 * i, 16), nullptr, 16);
        tuned_[shape] = algo;
        return true;
      });
}

const cublasLtMatmulAlgo_t& Matmul::algorithm(const MatmulCall& m) {
  const auto [rows, outputs, inputs, kind] = product_shape(m);
  const auto aligned = static_cast<std::int64_t>(
      std::min({alignment(m.weight, m.ldw, m.in), alignment(m.x, m.ldx, m.in), alignment(m.out, m.ldo, m.type),
                m.residual != nullptr ? alignment(m.residual, m.ldr, m.type) : 256U}));
  // Without a residual no stride of it; in place (-1) is another plan than beside.
  const std::int64_t residual = m.residual == nullptr ? 0 : m.residual == m.out ? -1 : m.ldr;
  const Key key{rows, outputs, inputs, m.ldx * 257 + aligned, m.ldw, m.ldo, residual, kind};
  if (const auto found = chosen_.find(key); found != chosen_.end()) return found->second;
  if (chosen_.size() >= kMostChosen) chosen_.clear();
  if (tuner_ && !tuned_.contains(product_shape(m))) tuned_[product_shape(m)] = fastest(m);
  const Choice choice = choose(m, rows);
  ++(choice.measured ? choices_.measured : choices_.proposed);
  return chosen_.emplace(key, choice.algo).first->second;
}

void Matmul::prepare(const MatmulCall& call) {
  if (call.rows > 0) static_cast<void>(algorithm(call));
}

cublasStatus_t Matmul::multiply(const MatmulCall& m, const cublasLtMatmulAlgo_t& algo) {
  Problem p(m, m.rows);
  if (p.good != CUBLAS_STATUS_SUCCESS) return p.good;
  const float beta = m.residual != nullptr ? 1.0F : 0.0F;
  // Of whole numbers both are whole.
  const std::int32_t one = 1, zero = 0;
  const bool whole = m.in == DType::i8;
  const void *const alpha_at = whole ? static_cast<const void*>(&one) : &m.alpha, *const beta_at =
                                                                                      whole ? static_cast<const void*>(
                                                                                                  &zero)
                                                                                            : &beta;
  const void* c = m.residual != nullptr ? m.residual : m.out;
  return cublasLtMatmul(handle_, &p.desc, alpha_at, m.weight, &p.w, m.x, &p.x, beta_at, c, &p.c, m.out, &p.d, &algo,
                        workspace_.data(), kWorkspaceBytes, stream_);
}

void Matmul::run(const MatmulCall& m) {
  if (m.rows == 0 || m.outputs == 0) return;
  cublasStatus_t status = multiply(m, algorithm(m));
  // An algorithm is chosen for its bucket's largest number of rows; where it refuses fewer, this shape has its own.
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) {
    cublasLtMatmulHeuristicResult_t own{};
    propose(m, m.rows, &own, 1);
    status = multiply(m, own.algo);
  }
  check(status, m, "multiplying");
}

}  // namespace tandem::backend::cuda
