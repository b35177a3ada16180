// Dense products through cuBLASLt.
#pragma once

#include <cublasLt.h>

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "backend/backend.h"
#include "backend/cuda/runtime.h"
#include "backend/cuda/tuned_lines.h"

namespace tandem::backend::cuda {

/// out = alpha * x W^T + bias + residual; rows of every matrix are contiguous. Sums in float32, of E4M3 by fast
/// accumulation; of int8 in int32, without alpha, bias and residual.
struct MatmulCall {
  const void* x = nullptr;  // [rows, inputs]
  std::int64_t rows = 0, ldx = 0;
  const void* weight = nullptr;  // [outputs, inputs], of x's type
  std::int64_t outputs = 0, inputs = 0, ldw = 0;
  DType in = DType::f32;
  const void* bias = nullptr;      // [outputs] of out's type; null: zero
  const void* residual = nullptr;  // [rows, outputs] of out's type; may be out; null: zero
  std::int64_t ldr = 0;
  void* out = nullptr;  // [rows, outputs]
  std::int64_t ldo = 0;
  DType type = DType::f32;
  float alpha = 1;
  bool tf32 = false;                                            ///< float32 inputs rounded to tf32; else IEEE float32
  const float *row_scales = nullptr, *column_scales = nullptr;  // E4M3: [rows], [outputs], both or null
};

/// Rows up to 256 are a bucket each; beyond, sixteen buckets between powers of two. The largest of the bucket.
std::int64_t row_bucket(std::int64_t rows);

class MatmulTuner;
class ProductTimer;

/// What a tuning file knows a call by; its kind is made of types, bias and residual.
ProductShape product_shape(const MatmulCall& call);

/// One handle, its workspace, and the algorithms chosen so far: one a bucket of shapes, as it was measured on such a
/// device, or by cuBLASLt's heuristic; never by timing, unless tuning was asked for. Used by one thread at a time, on
/// one stream.
class Matmul {
 public:
  /// `choices`: where the shapes are counted.
  Matmul(Health& health, int device, cudaStream_t stream, Choices& choices);
  ~Matmul();
  Matmul(const Matmul&) = delete;
  Matmul& operator=(const Matmul&) = delete;

  /// Whether this cuBLASLt computes it: of E4M3 it knows fewer combinations.
  bool supports(const MatmulCall& call);
  /// Chooses the algorithm now.
  void prepare(const MatmulCall& call);
  void run(const MatmulCall& call);

  /// Forgets what was measured; from now on the first call of a shape times what could compute it (MatmulTuner), and
  /// keeps the fastest. `timer` must stay.
  void start_tuning(ProductTimer& timer);
  /// What was measured, as text: a line a shape, which names the version of cuBLASLt that can read it.
  std::string tuned() const;
  /// Takes what tuned() gave, where this cuBLASLt is the same; lines that do not parse are left out. Returns how many
  /// shapes it took.
  int take_tuned(const std::string& text);

 private:
  void check(cublasStatus_t status, const MatmulCall& call, const char* what);
  const cublasLtMatmulAlgo_t& algorithm(const MatmulCall& call);
  struct Choice {
    cublasLtMatmulAlgo_t algo;
    bool measured;
  };
  Choice choose(const MatmulCall& call, std::int64_t rows);
  cublasLtMatmulAlgo_t fastest(const MatmulCall& call);
  cublasStatus_t ask(const MatmulCall& call, std::int64_t rows, cublasLtMatmulHeuristicResult_t* results, int most,
                     int& found);
  int propose(const MatmulCall& call, std::int64_t rows, cublasLtMatmulHeuristicResult_t* results, int most);
  cublasStatus_t multiply(const MatmulCall& call, const cublasLtMatmulAlgo_t& algorithm);

  Health& health_;
  const int device_;
  cudaStream_t stream_;
  cublasLtHandle_t handle_ = nullptr;
  Buffer workspace_;
  /// What a heuristic looks at: sizes (rows rounded up to a bucket), strides, types, epilogue, alignment.
  using Key = std::array<std::int64_t, 8>;
  std::map<Key, cublasLtMatmulAlgo_t> chosen_;
  std::map<ProductShape, cublasLtMatmulAlgo_t> tuned_;  ///< for packed matrices
  Choices& choices_;
  std::unique_ptr<MatmulTuner> tuner_;  ///< none: nothing is timed
};

}  // namespace tandem::backend::cuda
