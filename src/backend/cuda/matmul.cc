#include "backend/cuda/matmul.h"

#include <algorithm>
#include <bit>

#include "base/strings.h"

namespace tandem::backend::cuda {
namespace {

/// What cuBLAS's split products and stream-K need on Hopper; with less, small products are slower.
constexpr std::size_t kWorkspaceBytes = std::size_t{32} << 20;
/// Texts have any number of rows: what was chosen for shapes that no longer come must not pile up.
constexpr std::size_t kMostChosen = 4096;

cudaDataType_t type_of(DType t) {
  return t == DType::f16 ? CUDA_R_16F : t == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F;
}

/// Rows up to 256 are a bucket each; beyond, sixteen buckets between powers of two.
std::int64_t bucket(std::int64_t rows) {
  if (rows <= 256) return rows;
  const std::int64_t step = static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(rows - 1))) / 16;
  return (rows + step - 1) / step * step;
}

std::uint32_t alignment(const void* p, std::int64_t stride, DType type) {
  const auto bits = reinterpret_cast<std::uintptr_t>(p) | (static_cast<std::uintptr_t>(stride) * size_of(type)) | 256U;
  return static_cast<std::uint32_t>(bits & (~bits + 1));  // the lowest bit
}

/// cuBLAS counts columns first: row-major out = x W^T is column-major out^T = W x^T, with W transposed.
struct Problem {
  cublasLtMatmulDescOpaque_t desc;
  cublasLtMatrixLayoutOpaque_t w, x, c, d;

  Problem(const MatmulCall& m, std::int64_t rows) {
    const auto n = static_cast<std::uint64_t>(m.outputs), k = static_cast<std::uint64_t>(m.inputs);
    const auto r = static_cast<std::uint64_t>(rows);
    good = cublasLtMatmulDescInit(&desc, m.tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F);
    set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
    if (m.bias != nullptr) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, m.bias);
      set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type_of(m.type));
    }
    layout(w, m.in, k, n, m.ldw);
    layout(x, m.in, k, r, m.ldx);
    layout(c, m.type, n, r, m.residual != nullptr ? m.ldr : m.ldo);
    layout(d, m.type, n, r, m.ldo);
  }
  cublasStatus_t good = CUBLAS_STATUS_SUCCESS;

 private:
  template <class T>
  void set(cublasLtMatmulDescAttributes_t what, const T& value) {
    if (good == CUBLAS_STATUS_SUCCESS) good = cublasLtMatmulDescSetAttribute(&desc, what, &value, sizeof value);
  }
  void layout(cublasLtMatrixLayoutOpaque_t& l, DType type, std::uint64_t rows, std::uint64_t columns,
              std::int64_t stride) {
    // One row: its stride says nothing, but must not be below the width.
    const std::int64_t ld = std::max(stride, static_cast<std::int64_t>(rows));
    if (good == CUBLAS_STATUS_SUCCESS) good = cublasLtMatrixLayoutInit(&l, type_of(type), rows, columns, ld);
  }
};

}  // namespace

Matmul::Matmul(Health& health, int device, cudaStream_t stream)
    : health_(health), stream_(stream), workspace_(allocate_device(health, device, kWorkspaceBytes)) {
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

cublasLtMatmulAlgo_t Matmul::choose(const MatmulCall& m, std::int64_t rows) {
  Problem p(m, rows);
  check(p.good, m, "describing");
  cublasLtMatmulPreferenceOpaque_t preference;
  check(cublasLtMatmulPreferenceInit(&preference), m, "describing");
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t what, auto value) {
    check(cublasLtMatmulPreferenceSetAttribute(&preference, what, &value, sizeof value), m, "describing");
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspaceBytes);
  const std::uint32_t out = alignment(m.out, m.ldo, m.type);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment(m.weight, m.ldw, m.in));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment(m.x, m.ldx, m.in));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, m.residual != nullptr ? alignment(m.residual, m.ldr, m.type) : out);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, out);
  cublasLtMatmulHeuristicResult_t result{};
  int found = 0;
  check(cublasLtMatmulAlgoGetHeuristic(handle_, &p.desc, &p.w, &p.x, &p.c, &p.d, &preference, 1, &result, &found), m,
        "no algorithm for");
  if (found == 0) check(CUBLAS_STATUS_NOT_SUPPORTED, m, "no algorithm for");
  return result.algo;
}

const cublasLtMatmulAlgo_t& Matmul::algorithm(const MatmulCall& m) {
  const std::int64_t rows = bucket(m.rows);
  const auto aligned = static_cast<std::int64_t>(
      std::min({alignment(m.weight, m.ldw, m.in), alignment(m.x, m.ldx, m.in), alignment(m.out, m.ldo, m.type),
                m.residual != nullptr ? alignment(m.residual, m.ldr, m.type) : 256U}));
  const std::int64_t kind = static_cast<std::int64_t>(m.in) * 64 + static_cast<std::int64_t>(m.type) * 4 +
                            (m.bias != nullptr ? 2 : 0) + (m.tf32 ? 1 : 0);
  // Without a residual no stride of it; in place (-1) is another plan than beside.
  const std::int64_t residual = m.residual == nullptr ? 0 : m.residual == m.out ? -1 : m.ldr;
  const Key key{rows, m.outputs, m.inputs, m.ldx * 257 + aligned, m.ldw, m.ldo, residual, kind};
  if (const auto found = chosen_.find(key); found != chosen_.end()) return found->second;
  if (chosen_.size() >= kMostChosen) chosen_.clear();
  return chosen_.emplace(key, choose(m, rows)).first->second;
}

void Matmul::prepare(const MatmulCall& call) {
  if (call.rows > 0) static_cast<void>(algorithm(call));
}

void Matmul::run(const MatmulCall& m) {
  if (m.rows == 0 || m.outputs == 0) return;
  Problem p(m, m.rows);
  check(p.good, m, "describing");
  const float beta = m.residual != nullptr ? 1.0F : 0.0F;
  const void* c = m.residual != nullptr ? m.residual : m.out;
  const auto multiply = [&](const cublasLtMatmulAlgo_t& algo) {
    return cublasLtMatmul(handle_, &p.desc, &m.alpha, m.weight, &p.w, m.x, &p.x, &beta, c, &p.c, m.out, &p.d, &algo,
                          workspace_.data(), kWorkspaceBytes, stream_);
  };
  cublasStatus_t status = multiply(algorithm(m));
  // An algorithm is chosen for its bucket's largest number of rows; where it refuses fewer, this shape has its own.
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) {
    status = multiply(choose(m, m.rows));
  }
  check(status, m, "multiplying");
}

}  // namespace tandem::backend::cuda
