// Attention of the CPU backend against the reference: lengths, head sizes, ragged rows, prefixes, masks.
#include <cmath>
#include <limits>
#include <numeric>

#include "unit/backend/cpu_support.h"

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
};

class CpuAttention : public CpuBackendTest {
 protected:
  void compare(const Case& c) {
    const std::int64_t width = static_cast<std::int64_t>(c.heads) * c.head_dim;
    std::vector<std::int32_t> offsets{0};
    for (const std::int32_t n : c.lengths) offsets.push_back(offsets.back() + n);
    const std::int64_t rows = offsets.back(), count = static_cast<std::int64_t>(c.lengths.size());
    const std::int32_t longest = *std::max_element(c.lengths.begin(), c.lengths.end());
    const bool uniform = rows == count * longest;
    const std::int64_t query_rows = c.one_query ? count : rows;
    Matrix qkv(way().type(), rows, 3 * width), q1(way().type(), count, width);
    Matrix before(way().type(), std::max<std::int64_t>(c.prefix, 1), 2 * width), out(way().type(), query_rows, width);
    qkv.fill(1, c.sharpness), q1.fill(2, c.sharpness), before.fill(3, c.sharpness);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t i = 2 * width; i < 3 * width; ++i) qkv.at(r, i) /= c.sharpness;
    }
    qkv.store();
    AttentionArgs a;
    a.heads = c.heads, a.head_dim = c.head_dim, a.causal = c.causal;
    const auto run = [&](Backend& backend, View all, View one, View prefix, View to) {
      a.q = c.one_query ? one : all.column_range(0, width);
      a.k = all.column_range(width, width), a.v = all.column_range(2 * width, width);
      if (c.prefix > 0) a.prefix_k = prefix.column_range(0, width), a.prefix_v = prefix.column_range(width, width);
      a.keys = {count, longest, rows, uniform ? nullptr : offsets.data()};
      a.queries = c.one_query ? Sequences{count, 1, count, nullptr} : a.keys;
      a.out = to;
      backend.attention(a);
    };
    run(*reference, qkv.reference(), q1.reference(), before.reference(), out.reference());
    run(*cpu, qkv.view(), q1.view(), before.view(), out.view());
    // Scores of size s turn their own rounding error into a relative error of the weights.
    auto t = tolerance(way().type(), c.head_dim);
    const float score = 6 * c.sharpness * c.sharpness;
    t.absolute +=
        4 * (1 + score) * (way().type() == DType::bf16 ? 0 : 0x1p-24F * std::sqrt(static_cast<float>(c.head_dim)));
    expect_close(out, t,
                 std::to_string(longest) + " rows, head " + std::to_string(c.head_dim) + (c.causal ? ", causal" : "") +
                     (c.one_query ? ", one query" : "") + ", prefix " + std::to_string(c.prefix));
  }
};

TEST_P(CpuAttention, EveryHeadSize) {
  for (const int dim : {1, 3, 16, 20, 32, 64, 80, 88, 104, 128, 130}) {
    compare({{10, 10}, 2, dim});
    compare({{10, 10}, 2, dim, false, 0, true});
    compare({{7, 3, 12}, 3, dim, true});
  }
}

TEST_P(CpuAttention, EveryLengthOfTheImageTowers) {
  for (const int rows : {1, 2, 5, 27, 28, 29, 50, 63, 64, 65, 197, 257, 577}) {
    compare({{rows, rows}, 1, 64});
    compare({{rows, rows}, 1, 64, false, 0, true});
  }
  compare({{577}, 2, 80});
}

TEST_P(CpuAttention, RaggedCausalTexts) {
  compare({{1, 16, 77, 2, 3, 40, 33}, 4, 64, true});
  compare({{1, 16, 77, 2, 3, 40, 33}, 4, 20, false});
  compare({{1, 16, 77, 2, 3, 40, 33}, 4, 64, false, 0, true});
}

TEST_P(CpuAttention, SharedPrefix) {
  for (const std::int64_t prefix : {1, 4, 5, 60}) {
    compare({{3, 1, 9, 17}, 2, 64, true, prefix});
    compare({{3, 1, 9, 18}, 2, 20, false, prefix});
    compare({{3, 1, 9, 17}, 2, 80, false, prefix, true});
  }
}

TEST_P(CpuAttention, SharpScores) {
  compare({{50}, 2, 64, false, 0, false, 6});
  compare({{50}, 2, 64, false, 0, true, 6});
}

TEST_P(CpuAttention, NotANumberStaysInItsSequence) {
  constexpr std::int64_t kWidth = 32;
  Matrix qkv(way().type(), 20, 3 * kWidth), out(way().type(), 20, kWidth);
  qkv.fill(1);
  qkv.at(3, kWidth + 4) = std::numeric_limits<float>::quiet_NaN();  // a key of the first sequence's first head
  qkv.store();
  AttentionArgs a;
  a.q = qkv.view().column_range(0, kWidth), a.k = qkv.view().column_range(kWidth, kWidth);
  a.v = qkv.view().column_range(2 * kWidth, kWidth), a.out = out.view();
  a.queries = a.keys = {2, 10, 20, nullptr};
  a.heads = 2, a.head_dim = 16;
  cpu->attention(a);
  for (std::int64_t r = 0; r < 20; ++r) {
    for (std::int64_t c = 0; c < kWidth; ++c) EXPECT_EQ(std::isnan(out.got(r, c)), r < 10 && c < 16) << r << ", " << c;
  }
}

INSTANTIATE_TEST_SUITE_P(Ways, CpuAttention, ::testing::ValuesIn(all_ways()), name_of);

}  // namespace
}  // namespace tandem::backend::test
