// Attention of the CUDA backend against the reference, and what is refused.
#include "unit/backend/attention_cases.h"
#include "unit/backend/cuda_support.h"

namespace tandem::backend::test {
namespace {

class CudaAttention : public CudaTest {
 protected:
  void compare(const AttentionCase& c) {
    // In the sixteen-bit types the weights are rounded as well, before they are multiplied with values of order one.
    auto t = tandem::test::product_tolerance(GetParam(), type(), c.head_dim);
    t.absolute += score_rounding(c);
    // In tf32 each term of a score is right to 2^-16 of itself; they are as many as the head has elements.
    if (GetParam() == Precision::tf32) t.absolute += 4 * c.sharpness * c.sharpness * 0x1p-16F;
    compare_attention(*cuda, *reference, type(), GetParam(), c, t);
  }
};

TEST_P(CudaAttention, EveryHeadSize) {
  for (const auto& c : every_head_size(128)) compare(c);
}

TEST_P(CudaAttention, EveryLengthOfTheImageTowers) {
  for (const auto& c : every_length_of_the_image_towers()) compare(c);
}

TEST_P(CudaAttention, ManyHeadsAndSequences) {
  for (const auto& c : many_heads_and_sequences()) compare(c);
}

TEST_P(CudaAttention, RaggedCausalTexts) {
  for (const auto& c : ragged_causal_texts()) compare(c);
}

TEST_P(CudaAttention, SharedPrefix) {
  for (const auto& c : shared_prefixes()) compare(c);
}

TEST_P(CudaAttention, RowsWithGaps) {
  for (const auto& c : rows_with_gaps()) compare(c);
}

TEST_P(CudaAttention, SharpScores) {
  for (const auto& c : sharp_scores()) compare(c);
}

TEST_P(CudaAttention, NotANumberStaysInItsSequence) {
  for (const int dim : {16, 12}) expect_nan_stays(*cuda, type(), GetParam(), dim);
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
