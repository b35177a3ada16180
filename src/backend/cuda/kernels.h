// The kernels, each in its own file. They are launched on a stream and return what the launch said; shapes and types
// were checked before. Calls with no rows launch nothing.
#pragma once

#include <cuda_runtime_api.h>

#include "backend/backend.h"

namespace tandem::backend::cuda {

/// Where kernels are issued. `overlap`: they may begin before the one in front of them has ended (overlap.cuh), which
/// takes compute capability 9.0.
struct Queue {
  cudaStream_t stream = nullptr;
  bool overlap = false;
};

/// Memory that a kernel soon to come reads and nobody writes, brought into the second-level cache beside a kernel's own
/// work.
struct Ahead {
  const std::byte* data = nullptr;
  std::uint32_t lines = 0;  ///< of 128 bytes
};

/// to[i] = from[i] between f32, f16 and bf16.
cudaError_t convert_elements(const void* from, DType from_type, void* to, DType to_type, std::int64_t elements,
                             cudaStream_t stream);

/// In place to the nearest value of tf32's ten bits of fraction: tensor cores cut the rest off, which would be an error
/// of one sign in every weight.
cudaError_t round_to_tf32(float* x, std::int64_t elements, cudaStream_t stream);

/// float32 rows as three parts of bfloat16 beside each other: high is the nearest bfloat16, low that of what remains.
/// [high, low, high] times a weight's [high, high, low] is one product three times as deep, right to 2^-16 of each
/// term; what it leaves out is low times low.
struct SplitCall {
  const float* x = nullptr;  // [rows, columns]
  std::int64_t rows = 0, columns = 0, ldx = 0;
  std::int64_t part = 0;  ///< columns rounded up to a multiple of 8; what lies between becomes zero
  bool weight = false;
  void* out = nullptr;  // bf16 [rows, 3 * part]
};
cudaError_t split_rows(const SplitCall& call, Queue queue);

/// No gamma and no beta: ones and zeros.
cudaError_t layer_norm(const LayerNormArgs& args, const Ahead& ahead, Queue queue);

/// What norm_fold.cu computes is limited to rows of a multiple of 8 elements, and of so many.
inline constexpr int kMostFolded = 2048;

/// out[n] = weight[n] gamma, sums[n] = the sum of out[n], bias[n] += weight[n] . beta
struct FoldCall {
  const void* weight = nullptr;  // [rows, columns], packed
  DType type = DType::f32;
  std::int64_t rows = 0, columns = 0;
  const float *gamma = nullptr, *beta = nullptr;  // [columns]
  void* out = nullptr;                            // f16 [rows, columns]; may be weight where that is f16
  float *sums = nullptr, *bias = nullptr;         // [rows]
};
cudaError_t fold_norm(const FoldCall& call, cudaStream_t stream);

/// scale[r] = 1 / sqrt(var(x[r]) + eps), shift[r] = -mean(x[r]) scale[r]
struct RowStatisticsCall {
  const void* x = nullptr;  // f16 [rows, columns], rows at multiples of 16 bytes
  std::int64_t rows = 0, columns = 0, ldx = 0;
  float eps = 0;
  float *scale = nullptr, *shift = nullptr;  // [rows]
};
cudaError_t row_statistics(const RowStatisticsCall& call, Queue queue);

/// Weights and activations in E4M3 or int8 (eight_bit.cu). A row's scale is its largest magnitude / 448, or / 127, so
/// that element = stored times scale; 1 where the row is all zeros; in int8 not a number where an element is not
/// finite.
struct QuantizeWeightCall {
  const void* weight = nullptr;  // [rows, columns], packed
  DType type = DType::f32;
  std::int64_t rows = 0, columns = 0;
  DType to = DType::f8e4m3;  ///< or i8
  void* out = nullptr;       // [rows, columns]
  float* scales = nullptr;   // [rows]
  bool given = false;        ///< the scales that are positive stand there already
  /// Of a layer behind a LayerNorm: what no output can exceed, bounds[n] = sqrt(columns) |weight[n] gamma| +
  /// |weight[n] . beta + bias[n]|, since a normalised row's norm is at most sqrt(columns) (Cauchy, Schwarz).
  const float *gamma = nullptr, *beta = nullptr, *bias = nullptr;  // [columns], [columns], [rows] or null
  float* bounds = nullptr;                                         // [rows]; null: not wanted
};
cudaError_t quantize_weight(const QuantizeWeightCall& call, cudaStream_t stream);

/// out[r] = quantised ln(x[r]) (layer_norm.cu's), or without gamma and beta x[r] as it is.
struct QuantizeRowsCall {
  const void* x = nullptr;  // f16 [rows, columns]
  std::int64_t rows = 0, columns = 0, ldx = 0;
  const float *gamma = nullptr, *beta = nullptr;  // [columns]
  float eps = 0;
  DType type = DType::f8e4m3;  ///< of out, or i8
  float step = 0;              ///< not 0: the scale of every row
  void* out = nullptr;         // [rows, columns]
  float* scales = nullptr;     // [rows]
  Ahead ahead;
};
/// Columns are a multiple of 8, at most kMostFolded; rows begin at multiples of 16 bytes.
cudaError_t quantize_norm(const QuantizeRowsCall& call, Queue queue);
/// Columns are a multiple of 8; rows begin at multiples of 16 bytes.
cudaError_t quantize_rows(const QuantizeRowsCall& call, Queue queue);

/// out = fn(row_scales[r] column_scales[c] sums[r, c] + bias[c]) + residual[r, c] (finish.cu). Columns are a multiple
/// of 8; rows and vectors begin at multiples of 16 bytes, but for row_scales.
struct FinishCall {
  ConstView sums;                        // i32 or f32 [rows, columns]
  const float* row_scales = nullptr;     // [rows]
  const float* column_scales = nullptr;  // [columns]
  const float* bias = nullptr;           // [columns]; null: zero
  ConstView residual;                    // f16 [rows, columns]; may be out; none: zero
  View out;                              // f16 [rows, columns]
  ActivationFn fn = ActivationFn::none;
};
cudaError_t finish_sums(const FinishCall& call, Queue queue);

/// norm_project() on compute capability 9.0, with rows of at most kMostFolded elements: one kernel.
struct NormProjectCall {
  ConstView x;                                    // [rows, D]
  const float *gamma = nullptr, *beta = nullptr;  // [D]
  float eps = 0;
  View normalized;                // f32 [rows, D]
  const float* weight = nullptr;  // [P, D]
  std::int64_t ldw = 0;
  bool normalize = true;
  View out;  // f32 [rows, P]
};
bool norm_project_fits(const NormProjectCall& call);
cudaError_t norm_project(const NormProjectCall& call, Queue queue);

/// out = fn(x) + residual, elementwise; x, residual (null: none) and out of one type, out may be x.
struct ActivateCall {
  ConstView x;
  ConstView residual;
  View out;
  ActivationFn fn = ActivationFn::none;
  bool tf32 = false;  ///< round what is written
};
cudaError_t activate(const ActivateCall& call, Queue queue);

/// The rows of the patch matrix for `images` images: row b * tokens + first + p holds pixels minus `centre` of patch p
/// in memory order (y, x, channel), padded with zeros to `columns`; the row of a class token (first = 1) is all zeros.
struct PatchRowsCall {
  const std::uint8_t* pixels = nullptr;  // [images, side, side, 3]
  std::int64_t images = 0, side = 0, columns = 0;
  int patch = 0, first = 0;
  float centre[3] = {0, 0, 0};
  DType type = DType::f32;
  void* out = nullptr;  // [images * tokens, columns]
};
/// What the product of patches is added to: out[b * tokens + t] = position[t] + (t < first ? class_embedding : bias).
struct PositionRowsCall {
  const float* position = nullptr;
  std::int64_t position_stride = 0;
  const float* class_embedding = nullptr;
  const float* bias = nullptr;
  std::int64_t images = 0, tokens = 0;
  int first = 0;
  View out;  // [images * tokens, D]
};
/// Both, of the same images.
cudaError_t patch_and_position_rows(const PatchRowsCall& patches, const PositionRowsCall& positions, Queue queue);

cudaError_t embed_tokens(const EmbedTokensArgs& args, Queue queue);
cudaError_t select_rows(const SelectRowsArgs& args, Queue queue);

/// out[r] = x[r], or x[r] / |x[r]|; float32, out may be x.
cudaError_t copy_rows(ConstView x, View out, bool normalize, Queue queue);

/// What attention needs to know besides its arguments.
struct AttentionDevice {
  bool tensor_cores = false;  ///< those of compute capability 8.0, with asynchronous copies
  bool tf32 = false;          ///< float32 values may be rounded to tf32
  bool warpgroups = false;    ///< wgmma and the tensor memory accelerator, of compute capability 9.0 alone
  int processors = 1;         ///< multiprocessors
  Ahead ahead = {};
  /// Not 0: `out` is written in E4M3, divided by this, every row where its row of `out`'s own type begins.
  float step = 0;
};
inline constexpr int kLargestHead = 128;
/// Chooses among the kernels below.
cudaError_t attention(const AttentionArgs& args, const AttentionDevice& device, Queue queue);
cudaError_t attention_plain(const AttentionArgs& args, const AttentionDevice& device, Queue queue);
cudaError_t attention_one_query(const AttentionArgs& args, const AttentionDevice& device, Queue queue);
cudaError_t attention_tf32(const AttentionArgs& args, const AttentionDevice& device, Queue queue);
cudaError_t attention_mma(const AttentionArgs& args, const AttentionDevice& device, Queue queue);
/// Sequences of one length beyond 64 rows, 16-bit heads of 64 or 80 elements, no mask and no prefix.
bool wgmma_fits(const AttentionArgs& args);
cudaError_t attention_wgmma(const AttentionArgs& args, const AttentionDevice& device, Queue queue);

/// Whether this library holds code for the device that is current.
cudaError_t runs_here();

}  // namespace tandem::backend::cuda
