// Entry points of the files that are compiled for one instruction set. Those files hold intrinsics on raw pointers and
// include nothing with inline functions of the project or the standard library, so that the linker can never keep a
// copy of a shared function that the processor lacks.
#pragma once

#include <cstdint>

namespace tandem::backend::cpu {

/// Numbers of backend.h's ActivationFn, which these files do not include.
enum : int { kNoActivation = 0, kQuickGelu = 1, kGeluErf = 2, kGeluTanh = 3 };

constexpr int kAheadSteps = 8;

/// Rows x one panel of packed weights. A panel holds `Kernels::panel` outputs: for every step (one float32, a pair of
/// bf16, or four int8, of the inputs) the values of all its outputs side by side, zero beyond the last output.
struct GemmBlock {
  // The product: partial[r, n] (+)= sum over steps of a[r, step] * panel[step, n]. Of int8 sums are whole numbers of 32
  // bits, and begin with begin_with.
  const void* a;      ///< first row, at the block's first step
  std::int64_t lda;   ///< bytes between rows of a
  const void* panel;  ///< at the block's first step
  std::int64_t steps;
  bool odd_tail;     ///< bf16: the last step has only one element in a
  bool first, last;  ///< of the blocks along the inputs: clears `partial`; writes `out`
  float* partial;    ///< [rows, panel]; of int8 the bits of whole numbers
  std::int64_t rows;
  int columns;  ///< valid outputs of this panel

  /// What is read next, brought into the second-level cache meanwhile: for every kAheadSteps steps of every group of
  /// rows so many lines of 64 bytes. Processors' own prefetchers notice a new panel only when it is waited for.
  const void* ahead;
  int ahead_lines;

  // int8 only, null otherwise
  const std::int32_t* begin_with;  ///< [panel]
  const float* column_scale;       ///< [panel]

  // What happens to it last: out = fn(partial * row_scale * column_scale + bias) + residual
  const float* bias;       ///< [columns] or null
  const float* row_scale;  ///< [rows] or null
  int fn;
  const void* residual;  ///< of out's type, or null; row r of the call at residual_row(r)
  void* out;
  bool out_bf16;
  std::int64_t ldr, ldo;   ///< elements between rows
  std::int64_t first_row;  ///< number of this block's first row in the call
  /// Row r is stored as row (r / group) * out_group + r % group; the residual likewise. group 0: as row r.
  std::int64_t group, out_group, residual_group;
};

struct LayerNormRows {
  const float* x;
  void* out;
  bool out_bf16;
  std::int64_t rows, width, ldx, ldo;
  const float *gamma, *beta;
  float eps;
};

/// A row whose largest magnitude is not above this is one of zeros.
constexpr float kSmallestTop = 1e-30F;

/// Rows in eight bits: q = x / step, rounded to the nearest whole number (even ones first) within [-127, 127], where
/// step is the row's largest magnitude / 127. A row with a value that is not finite has such a step.
struct QuantiseRows {
  const void* x;
  bool bf16;
  std::int64_t rows, width, ldx;
  const float *gamma, *beta;  ///< x are float32 and normalised first; null: they are taken as they are
  float eps;
  float step;        ///< of every row, where it is positive
  float* room;       ///< [width], rounded up to whole vectors
  void* out;         ///< [rows, ldo]: as gemm_int8 reads them
  std::int64_t ldo;  ///< bytes between rows: quantised_bytes(width)
  float* steps;      ///< [rows]
};

/// Keys or values of one head: `before` rows of a shared prefix, then `own` rows.
struct HeadRows {
  const void *prefix, *rows;
  std::int64_t prefix_stride, stride;  ///< elements
  std::int64_t before, own;
  int head_dim;
};

/// Rows of scores become weights exp(scale * (s - max)), not yet divided by their sum. Row i sees the first
/// limit + i * limit_step scores; the rest, up to `padded`, becomes zero.
struct SoftmaxRows {
  const float* scores;  ///< as products leave them: panels of [rows, panel], `panel_stride` elements apart
  void* weights;        ///< [rows, padded] of the kernel's type; float32, one row: may be `scores`
  float* inverse_sums;  ///< [rows]
  std::int64_t rows, panel_stride, ldw, limit, limit_step, padded;
  float scale;
};

struct TokenRows {
  const std::int32_t *ids, *positions;
  const void* table;
  bool table_bf16;
  const float* position;
  float* out;
  std::int64_t rows, width, ldt, ldp, ldo;
};

/// One image's patches [first, last) as rows of whole pixels minus `centre`, padded with zeros to `padded` columns.
struct PatchRows {
  const std::uint8_t* image;
  std::int64_t side, patch, first, last, padded;
  int centre[3];
  void* out;
};

struct Kernels {
  const char* name;
  int panel;      ///< outputs of one panel
  int max_rows;   ///< rows that the innermost kernel holds in registers
  bool has_bf16;  ///< the _bf16 entries are there
  void (*gemm_f32)(const GemmBlock&);
  void (*gemm_bf16)(const GemmBlock&);
  void (*gemm_int8)(const GemmBlock&);
  void (*quantise)(const QuantiseRows&);
  /// Quantised values are stored with this added, as bytes (VNNI), or as 16 bits with nothing added.
  int int8_offset;
  void (*layer_norm)(const LayerNormRows&);
  /// Panels of keys: step = one float32 or a pair of bf16 of the head's columns, outputs = keys.
  void (*pack_keys_f32)(const HeadRows&, void* panels);
  void (*pack_keys_bf16)(const HeadRows&, void* panels);
  /// Panels of values: step = one key (float32) or two (bf16), outputs = the head's columns.
  void (*pack_values_f32)(const HeadRows&, void* panels);
  void (*pack_values_bf16)(const HeadRows&, void* panels);
  void (*softmax_f32)(const SoftmaxRows&);
  void (*softmax_bf16)(const SoftmaxRows&);
  /// One query: the whole of attention for one head, without packing. `scores` has room for all keys, rounded up to
  /// whole panels.
  void (*attend_one_f32)(const void* q, const HeadRows& k, const HeadRows& v, float scale, float* scores, void* out);
  void (*attend_one_bf16)(const void* q, const HeadRows& k, const HeadRows& v, float scale, float* scores, void* out);
  void (*embed_tokens)(const TokenRows&);
  void (*patches_f32)(const PatchRows&);
  void (*patches_bf16)(const PatchRows&);
  /// x / sqrt(sum of squares), in place or not.
  void (*normalise)(const float* x, float* out, std::int64_t n);
  void (*scale)(float* x, std::int64_t n, float factor);
  /// out[i, j] = scale * a_i . b_j for `m` <= 4 rows of a.
  void (*dots)(const float* a, std::int64_t lda, int m, const float* b, std::int64_t ldb, std::int64_t n,
               std::int64_t width, float scale, float* out, std::int64_t ldo);
};

/// Bytes of a quantised row.
constexpr std::int64_t quantised_bytes(const Kernels& kernels, std::int64_t width) {
  return (width + 63) / 64 * 64 * (kernels.int8_offset != 0 ? 1 : 2);
}

const Kernels& sse2_kernels();
const Kernels& avx2_kernels();
const Kernels& avx512_kernels();
const Kernels& avx512_vnni_kernels();
const Kernels& avx512_bf16_kernels();  ///< with VNNI too

}  // namespace tandem::backend::cpu
