// The resize as a stream: rows go in as they are decoded, finished rows come out.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "image/fit.h"
#include "image/kernels.h"
#include "image/weights.h"

namespace tandem::image {

/// Where one axis of the output comes from: `count` pixels from `skip` on of the resized axis, put at `pad`.
struct Placement {
  int resized = 0;
  int skip = 0;
  int count = 0;
  int pad = 0;
  int out = 0;  ///< pixels of the output axis
};

struct FitPlan {
  Size source;
  Placement x, y;
  Resample resample = Resample::bicubic;
  Arithmetic arithmetic = Arithmetic::pillow;
};

/// Turns options into sizes and offsets; throws as fitted_size().
FitPlan plan_fit(Size source, const FitOptions& options);

/// True if the rows are reduced before the columns. Each pass rounds to bytes, so the order shows in the pixels. torch
/// always begins with the columns; Pillow 13 begins with the rows where that leaves clearly less to do. The rule was
/// found by comparing both orders with Pillow 13.0.0, and tests/golden/make_images.py keeps cases on both sides of it.
bool rows_first(const FitPlan& plan) noexcept;

/// Resizes one picture. Not thread-safe; one per picture.
class StreamingFit {
 public:
  /// Rows are written into `out`, [plan.y.out, plan.x.out, 3], which must outlive this and is zeroed where padded.
  StreamingFit(const FitPlan& plan, std::span<std::uint8_t> out, std::optional<Isa> isa);

  int first_column() const noexcept { return first_column_; }  ///< of the source; what push() rows begin with
  int last_column() const noexcept { return last_column_; }    ///< one past
  int first_row() const noexcept { return first_row_; }        ///< of the source; the first one to push
  int last_row() const noexcept { return last_row_; }          ///< one past

  /// The next rows of the source, in order from first_row(), beginning at first_column(), `readable` bytes each. All
  /// calls but the last bring exactly kTileRows rows.
  void push(const std::uint8_t* const* rows, int count, std::int64_t readable);

 private:
  /// An AxisWeights in the form that the kernels read.
  struct Packed {
    std::vector<std::int32_t> index;  // first, count, first_word: `outputs` each
    std::vector<std::uint32_t> words;
    PackedAxis view;
  };
  static void pack(const AxisWeights& weights, int begin, const Kernels& kernels, Packed& to);

  /// Makes room for a tile of rows in the ring and returns it; rows that no output needs any more leave.
  std::uint32_t* ring_room();

  /// Hands every output row whose source rows are in the ring to `emit(y, first group's words)`.
  template <class Emit>
  void finish_rows(Emit&& emit);

  /// The column pass over up to 16 rows into words[4][stride].
  void reduce_columns(const std::uint8_t* const* rows, int count, std::int64_t readable, std::uint32_t* words,
                      std::int64_t stride);
  void push_columns_first(const std::uint8_t* const* rows, int count, std::int64_t readable);
  void push_rows_first(const std::uint8_t* const* rows, int count);
  void flush_staged();
  std::uint8_t* out_row(int y);

  const Kernels& kernels_;
  FitPlan plan_;
  std::span<std::uint8_t> out_;
  bool rows_first_;
  Packed columns_, rows_;
  int first_column_ = 0, last_column_ = 0, first_row_ = 0, last_row_ = 0;
  int pushed_ = 0;                        // source rows so far
  int finished_ = 0;                      // output rows so far
  int groups_ = 0;                        // of four source columns
  std::vector<std::int32_t> last_of_;     // for each output row, one past the last source row, from first_row_
  std::vector<std::uint32_t> tile_;       // [groups_, 3, kTileRows]
  std::vector<std::uint32_t> ring_;       // [ring_groups_, stride_], four rows' bytes in a word
  std::int64_t stride_ = 0;               // words
  int ring_groups_ = 0, ring_begin_ = 0;  // capacity, and the group that slot 0 holds
  // Rows first only: finished rows on their way to the column pass, and its result.
  std::vector<std::uint8_t> staged_;
  std::int64_t staged_stride_ = 0;
  int staged_count_ = 0, staged_begin_ = 0;
  std::vector<std::uint32_t> staged_words_;
};

}  // namespace tandem::image
