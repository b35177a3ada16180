// Attention of the CUDA backend against the reference: lengths, head sizes, ragged rows, prefixes, masks, strides.
#include <algorithm>
#include <cmath>
#include <limits>

#include "unit/backend/cuda_support.h"

namespace tandem::backend::test {
namespace {

using tandem::test::tolerance;

struct Case {
  std::vector<std::int32_t> lengths;
  int heads, head_dim;
  bool causal = false;
  std::int64_t prefix = 0;
  bool one_query = false;
  float sharpness = 1;
  std::int64_t slack = 0;  // elements between rows beyond q, k and v
};

class CudaAttention : public CudaTest {
 protected:
  void compare(const Case& c) {
    const std::int64_t width = static_cast<std::int64_t>(c.heads) * c.head_dim;
    std::vector<std::int32_t> offsets{0};
    for (const std::int32_t n : c.lengths) offsets.push_back(offsets.back() + n);
    const DeviceIntegers device_offsets(*cuda, offsets);
    const std::int64_t rows = offsets.back(), count = static_cast<std::int64_t>(c.lengths.size());
    const std::int32_t longest = *std::max_element(c.lengths.begin(), c.lengths.end());
    const bool uniform = rows == count * longest;
    const std::int64_t query_rows = c.one_query ? count : rows;
    DeviceMatrix qkv(*cuda, type(), rows, 3 * width, 3 * width + c.slack), q1(*cuda, type(), count, width);
    DeviceMatrix before(*cuda, type(), std::max<std::int64_t>(c.prefix, 1), 2 * width);
    DeviceMatrix out(*cuda, type(), query_rows, width, width + c.slack);
    qkv.fill(1, c.sharpness), q1.fill(2, c.sharpness), before.fill(3, c.sharpness);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t i = 2 * width; i < 3 * width; ++i) qkv.at(r, i) /= c.sharpness;
    }
    for (std::int64_t r = 0; r < before.rows(); ++r) {
      for (std::int64_t i = width; i < 2 * width; ++i) before.at(r, i) /= c.sharpness;
    }
    qkv.store(), before.store();
    AttentionArgs a;
    a.precision = GetParam(), a.heads = c.heads, a.head_dim = c.head_dim, a.causal = c.causal;
    const auto run = [&](Backend& backend, View all, View one, View prefix, View to, const std::int32_t* starts) {
      a.q = c.one_query ? one : all.column_range(0, width);
      a.k = all.column_range(width, width), a.v = all.column_range(2 * width, width);
      if (c.prefix > 0) a.prefix_k = prefix.column_range(0, width), a.prefix_v = prefix.column_range(width, width);
      a.keys = {count, longest, rows, uniform ? nullptr : starts};
      a.queries = c.one_query ? Sequences{count, 1, count, nullptr} : a.keys;
      a.out = to;
      backend.attention(a);
    };
    run(*cuda, qkv.view(), q1.view(), before.view(), out.view(), device_offsets.data());
    run(*reference, qkv.reference(), q1.reference(), before.reference(), out.reference(), offsets.data());
    // Scores of size s turn their own rounding error into a relative error of the weights; in the sixteen-bit types the
    // weights are rounded as well, before they are multiplied with values of order one.
    auto t = tandem::test::product_tolerance(GetParam(), type(), c.head_dim);
    const float score = 6 * c.sharpness * c.sharpness;
    t.absolute += 4 * (1 + score) * 0x1p-24F * std::sqrt(static_cast<float>(c.head_dim));
    // tf32 rounds each term of a score to 2^-11 of itself; they are as many as the head has elements.
    if (GetParam() == Precision::tf32) t.absolute += 4 * c.sharpness * c.sharpness * 0x1p-11F;
    expect_close(out, t,
                 std::to_string(longest) + " rows, head " + std::to_string(c.head_dim) + (c.causal ? ", causal" : "") +
                     (c.one_query ? ", one query" : "") + ", prefix " + std::to_string(c.prefix) + ", slack " +
                     std::to_string(c.slack));
  }
};

TEST_P(CudaAttention, EveryHeadSize) {
  for (const int dim : {1, 3, 8, 16, 20, 32, 40, 64, 72, 80, 88, 96, 104, 112, 120, 128}) {
    compare({{10, 10}, 2, dim});
    compare({{10, 10}, 2, dim, false, 0, true});
    compare({{7, 3, 12}, 3, dim, true});
    compare({{130}, 1, dim});
  }
}

TEST_P(CudaAttention, EveryLengthOfTheImageTowers) {
  for (const int rows : {1, 2, 5, 31, 32, 33, 50, 63, 64, 65, 127, 128, 129, 197, 257, 577, 1025}) {
    compare({{rows, rows}, 1, 64});
    compare({{rows, rows}, 1, 64, false, 0, true});
  }
  compare({{577}, 2, 80});
  compare({{257}, 2, 80});
  compare({{257}, 2, 104});
  compare({{577}, 2, 80, false, 0, true});
  compare({{257}, 2, 104, false, 0, true});
}

TEST_P(CudaAttention, ManyHeadsAndSequences) {
  compare({std::vector<std::int32_t>(40, 50), 12, 64});
  compare({std::vector<std::int32_t>(40, 50), 12, 64, false, 0, true});
}

TEST_P(CudaAttention, RaggedCausalTexts) {
  compare({{1, 16, 77, 2, 3, 40, 33}, 4, 64, true});
  compare({{1, 16, 77, 2, 3, 40, 33}, 4, 20, false});
  compare({{1, 16, 77, 2, 3, 40, 33}, 4, 64, false, 0, true});
  compare({{77, 77, 77}, 8, 64, true});
  compare({{200, 1, 65, 130}, 2, 64, true});
}

TEST_P(CudaAttention, SharedPrefix) {
  for (const std::int64_t prefix : {1, 4, 5, 60, 64, 70}) {
    compare({{3, 1, 9, 17}, 2, 64, true, prefix});
    compare({{3, 1, 9, 18}, 2, 20, false, prefix});
    compare({{3, 1, 9, 17}, 2, 80, false, prefix, true});
    compare({{70, 1, 130}, 2, 64, true, prefix});
  }
}

TEST_P(CudaAttention, RowsWithGaps) {
  for (const std::int64_t slack : {1, 4, 8}) {
    compare({{70, 70}, 2, 64, false, 0, false, 1, slack});
    compare({{7, 3, 12}, 3, 64, true, 4, false, 1, slack});
    compare({{70, 70}, 2, 64, false, 0, true, 1, slack});
  }
}

TEST_P(CudaAttention, SharpScores) {
  for (const bool one : {false, true}) {
    compare({{50}, 2, 64, false, 0, one, 6});
    compare({{300}, 2, 80, false, 0, one, 6});
  }
}

TEST_P(CudaAttention, NotANumberStaysInItsSequence) {
  for (const int dim : {16, 12}) {
    const std::int64_t width = 2 * dim;
    DeviceMatrix qkv(*cuda, type(), 20, 3 * width), out(*cuda, type(), 20, width);
    qkv.fill(1);
    qkv.at(3, width + 4) = std::numeric_limits<float>::quiet_NaN();  // a key of the first sequence's first head
    qkv.store();
    AttentionArgs a;
    a.q = qkv.view().column_range(0, width), a.k = qkv.view().column_range(width, width);
    a.v = qkv.view().column_range(2 * width, width), a.out = out.view();
    a.queries = a.keys = {2, 10, 20, nullptr};
    a.heads = 2, a.head_dim = dim;
    cuda->attention(a);
    out.fetch();
    for (std::int64_t r = 0; r < 20; ++r) {
      for (std::int64_t c = 0; c < width; ++c) {
        EXPECT_EQ(std::isnan(out.got(r, c)), r < 10 && c < dim) << r << ", " << c;
      }
    }
  }
}

TEST_P(CudaAttention, RefusesHeadsThatItCannotHold) {
  DeviceMatrix qkv(*cuda, type(), 4, 3 * 136), out(*cuda, type(), 4, 136);
  AttentionArgs a;
  a.q = qkv.view().column_range(0, 136), a.k = qkv.view().column_range(136, 136);
  a.v = qkv.view().column_range(272, 136), a.out = out.view();
  a.queries = a.keys = {1, 4, 4, nullptr};
  a.heads = 1, a.head_dim = 136;
  try {
    cuda->attention(a);
    FAIL() << "a head of 136 elements was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::unsupported);
  }
}

INSTANTIATE_TEST_SUITE_P(Every, CudaAttention, every_precision(), name_of);

}  // namespace
}  // namespace tandem::backend::test
