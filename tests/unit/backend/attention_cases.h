// Attention of a backend against the reference: what every fast implementation has to get right, and the comparison.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "unit/backend/matrix.h"

namespace tandem::backend::test {

struct AttentionCase {
  std::vector<std::int32_t> lengths;
  int heads, head_dim;
  bool causal = false;
  std::int64_t prefix = 0;
  bool one_query = false;
  float sharpness = 1;     ///< of the scores: queries and keys are so many times as large
  std::int64_t slack = 0;  ///< elements between rows beyond q, k and v
  std::int32_t longest() const { return *std::max_element(lengths.begin(), lengths.end()); }
};
using AttentionCases = std::vector<AttentionCase>;

/// Head sizes up to what the backend holds.
inline AttentionCases every_head_size(int largest) {
  AttentionCases out;
  for (const int dim : {1, 3, 8, 16, 20, 32, 40, 64, 72, 80, 88, 96, 104, 112, 120, 128, 130}) {
    if (dim > largest) continue;
    out.push_back({{10, 10}, 2, dim});
    out.push_back({{10, 10}, 2, dim, false, 0, true});
    out.push_back({{7, 3, 12}, 3, dim, true});
    out.push_back({{130}, 1, dim});
  }
  return out;
}

inline AttentionCases every_length_of_the_image_towers() {
  AttentionCases out;
  for (const int rows : {1, 2, 5, 27, 28, 29, 31, 32, 33, 50, 63, 64, 65, 127, 128, 129, 197, 257, 577, 1025}) {
    out.push_back({{rows, rows}, 1, 64});
    out.push_back({{rows, rows}, 1, 64, false, 0, true});
  }
  for (const bool one_query : {false, true}) {
    out.push_back({{577}, 2, 80, false, 0, one_query});
    out.push_back({{257}, 2, 80, false, 0, one_query});
    out.push_back({{257}, 2, 104, false, 0, one_query});
  }
  return out;
}

inline AttentionCases many_heads_and_sequences() {
  const std::vector<std::int32_t> many(40, 50);
  return {{many, 12, 64}, {many, 12, 64, false, 0, true}};
}

inline AttentionCases ragged_causal_texts() {
  return {{{1, 16, 77, 2, 3, 40, 33}, 4, 64, true},
          {{1, 16, 77, 2, 3, 40, 33}, 4, 20, false},
          {{1, 16, 77, 2, 3, 40, 33}, 4, 64, false, 0, true},
          {{77, 77, 77}, 8, 64, true},
          {{200, 1, 65, 130}, 2, 64, true}};
}

inline AttentionCases shared_prefixes() {
  AttentionCases out;
  for (const std::int64_t prefix : {1, 4, 5, 60, 64, 70}) {
    out.push_back({{3, 1, 9, 17}, 2, 64, true, prefix});
    out.push_back({{3, 1, 9, 18}, 2, 20, false, prefix});
    out.push_back({{3, 1, 9, 17}, 2, 80, false, prefix, true});
    out.push_back({{70, 1, 130}, 2, 64, true, prefix});
  }
  return out;
}

inline AttentionCases rows_with_gaps() {
  AttentionCases out;
  for (const std::int64_t slack : {1, 4, 8}) {
    out.push_back({{70, 70}, 2, 64, false, 0, false, 1, slack});
    out.push_back({{7, 3, 12}, 3, 64, true, 4, false, 1, slack});
    out.push_back({{70, 70}, 2, 64, false, 0, true, 1, slack});
  }
  return out;
}

inline AttentionCases sharp_scores() {
  AttentionCases out;
  for (const bool one_query : {false, true}) {
    out.push_back({{50}, 2, 64, false, 0, one_query, 6});
    out.push_back({{300}, 2, 80, false, 0, one_query, 6});
  }
  return out;
}

/// What float32's rounding of a case's scores makes of its weights: scores of size s turn their own error into a
/// relative error of the weights.
inline float score_rounding(const AttentionCase& c) {
  const float score = 6 * c.sharpness * c.sharpness;
  return 4 * (1 + score) * 0x1p-24F * std::sqrt(static_cast<float>(c.head_dim));
}

/// Computes a case on both and compares within `t`. `type`: of the activations on `tested`.
inline void compare_attention(Backend& tested, Backend& reference, DType type, Precision precision,
                              const AttentionCase& c, tandem::test::Tolerance t) {
  const std::int64_t width = static_cast<std::int64_t>(c.heads) * c.head_dim;
  std::vector<std::int32_t> offsets{0};
  for (const std::int32_t n : c.lengths) offsets.push_back(offsets.back() + n);
  const DeviceIntegers device_offsets(tested, offsets);
  const std::int64_t rows = offsets.back(), count = static_cast<std::int64_t>(c.lengths.size());
  const bool uniform = rows == count * c.longest();
  const std::int64_t query_rows = c.one_query ? count : rows;
  DeviceMatrix qkv(tested, type, rows, 3 * width, 3 * width + c.slack), q1(tested, type, count, width);
  DeviceMatrix before(tested, type, std::max<std::int64_t>(c.prefix, 1), 2 * width);
  DeviceMatrix out(tested, type, query_rows, width, width + c.slack);
  qkv.fill(1, c.sharpness), q1.fill(2, c.sharpness), before.fill(3, c.sharpness);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t i = 2 * width; i < 3 * width; ++i) qkv.at(r, i) /= c.sharpness;
  }
  for (std::int64_t r = 0; r < before.rows(); ++r) {
    for (std::int64_t i = width; i < 2 * width; ++i) before.at(r, i) /= c.sharpness;
  }
  qkv.store(), before.store();
  AttentionArgs a;
  a.precision = precision, a.heads = c.heads, a.head_dim = c.head_dim, a.causal = c.causal;
  const auto run = [&](Backend& backend, View all, View one, View prefix, View to, const std::int32_t* starts) {
    a.q = c.one_query ? one : all.column_range(0, width);
    a.k = all.column_range(width, width), a.v = all.column_range(2 * width, width);
    if (c.prefix > 0) a.prefix_k = prefix.column_range(0, width), a.prefix_v = prefix.column_range(width, width);
    a.keys = {count, c.longest(), rows, uniform ? nullptr : starts};
    a.queries = c.one_query ? Sequences{count, 1, count, nullptr} : a.keys;
    a.out = to;
    backend.attention(a);
  };
  run(tested, qkv.view(), q1.view(), before.view(), out.view(), device_offsets.data());
  run(reference, qkv.reference(), q1.reference(), before.reference(), out.reference(), offsets.data());
  expect_close(out, t,
               std::to_string(c.longest()) + " rows, head " + std::to_string(c.head_dim) +
                   (c.causal ? ", causal" : "") + (c.one_query ? ", one query" : "") + ", prefix " +
                   std::to_string(c.prefix) + ", slack " + std::to_string(c.slack));
}

/// A key that is not a number reaches its own sequence and head, and no other.
inline void expect_nan_stays(Backend& tested, DType type, Precision precision, int dim) {
  const std::int64_t width = std::int64_t{2} * dim;
  DeviceMatrix qkv(tested, type, 20, 3 * width), out(tested, type, 20, width);
  qkv.fill(1);
  qkv.at(3, width + 4) = std::numeric_limits<float>::quiet_NaN();  // a key of the first sequence's first head
  qkv.store();
  AttentionArgs a;
  a.q = qkv.view().column_range(0, width), a.k = qkv.view().column_range(width, width);
  a.v = qkv.view().column_range(2 * width, width), a.out = out.view();
  a.queries = a.keys = {2, 10, 20, nullptr};
  a.heads = 2, a.head_dim = dim, a.precision = precision;
  tested.attention(a);
  out.fetch();
  for (std::int64_t r = 0; r < 20; ++r) {
    for (std::int64_t c = 0; c < width; ++c) EXPECT_EQ(std::isnan(out.got(r, c)), r < 10 && c < dim) << r << ", " << c;
  }
}

}  // namespace tandem::backend::test
