// Attention of the CPU backend against the reference.
#include "unit/backend/attention_cases.h"
#include "unit/backend/cpu_support.h"

namespace tandem::backend::test {
namespace {

class CpuAttention : public CpuBackendTest {
 protected:
  void compare(const AttentionCase& c) {
    auto t = tandem::test::tolerance(way().type(), c.head_dim);
    if (way().type() == DType::f32) t.absolute += score_rounding(c);
    compare_attention(*cpu, *reference, way().type(), way().precision, c, t);
  }
};

TEST_P(CpuAttention, EveryHeadSize) {
  for (const auto& c : every_head_size(130)) compare(c);
}

TEST_P(CpuAttention, EveryLengthOfTheImageTowers) {
  for (const auto& c : every_length_of_the_image_towers()) compare(c);
}

TEST_P(CpuAttention, ManyHeadsAndSequences) {
  for (const auto& c : many_heads_and_sequences()) compare(c);
}

TEST_P(CpuAttention, RaggedCausalTexts) {
  for (const auto& c : ragged_causal_texts()) compare(c);
}

TEST_P(CpuAttention, SharedPrefix) {
  for (const auto& c : shared_prefixes()) compare(c);
}

TEST_P(CpuAttention, RowsWithGaps) {
  for (const auto& c : rows_with_gaps()) compare(c);
}

TEST_P(CpuAttention, SharpScores) {
  for (const auto& c : sharp_scores()) compare(c);
}

TEST_P(CpuAttention, NotANumberStaysInItsSequence) {
  for (const int dim : {16, 12}) expect_nan_stays(*cpu, way().type(), way().precision, dim);
}

INSTANTIATE_TEST_SUITE_P(Ways, CpuAttention, ::testing::ValuesIn(all_ways()), name_of);

}  // namespace
}  // namespace tandem::backend::test
