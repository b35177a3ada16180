// A second call of the same shape allocates nothing: every way of getting memory is counted. This program replaces the
// allocation functions, so it holds this one test only.
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <new>

#include "unit/backend/cpu_support.h"

namespace {

std::atomic<bool> counting{false};
std::atomic<int> allocations{0};

void count() {
  if (counting) ++allocations;
}

}  // namespace

extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void* malloc(std::size_t n) {
  count();
  return __libc_malloc(n);
}
void* calloc(std::size_t n, std::size_t size) {
  count();
  return __libc_calloc(n, size);
}
void* realloc(void* p, std::size_t n) {
  count();
  return __libc_realloc(p, n);
}
void* aligned_alloc(std::size_t alignment, std::size_t n) {
  count();
  return __libc_memalign(alignment, n);
}
int posix_memalign(void** p, std::size_t alignment, std::size_t n) {
  count();
  *p = __libc_memalign(alignment, n);
  return *p == nullptr ? 12 : 0;
}
}

namespace tandem::backend::test {
namespace {

class CpuAllocation : public CpuBackendTest {};

TEST_P(CpuAllocation, SecondCallsGetNoMemory) {
  constexpr std::int64_t kRows = 100, kWidth = 128, kBatch = 2;
  const DType type = way().type();
  Matrix x(DType::f32, kRows, kWidth), h(type, kRows, kWidth), qkv(type, kRows, 3 * kWidth),
      wide(type, kRows, 4 * kWidth);
  Matrix gamma(DType::f32, 1, kWidth), bias(DType::f32, 1, 4 * kWidth), position(DType::f32, 50, kWidth);
  Matrix w1(DType::f32, 4 * kWidth, kWidth), w2(DType::f32, kWidth, 4 * kWidth), wq(DType::f32, 3 * kWidth, kWidth);
  Matrix patch_weight(DType::f32, kWidth, 3 * 32 * 32), out(DType::f32, kBatch, kWidth);
  Matrix table(DType::f32, 30, kWidth), bias_qkv(DType::f32, 1, 3 * kWidth), bias_out(DType::f32, 1, kWidth);
  x.fill(1), gamma.fill(2), bias.fill(3), position.fill(4), w1.fill(5, 0.1F), w2.fill(6, 0.1F), wq.fill(7, 0.1F);
  const auto fc1 = cpu->prepare_linear(w1.view(), way().precision),
             fc2 = cpu->prepare_linear(w2.view(), way().precision);
  const auto in = cpu->prepare_linear(wq.view(), way().precision);
  const float mean[3] = {0.5F, 0.5F, 0.5F}, std[3] = {0.5F, 0.5F, 0.5F};
  const auto patch = cpu->prepare_patch_embed({patch_weight.view().data, DType::f32, {kWidth, 3, 32, 32}}, {}, mean,
                                              std, 1.0F / 255, way().precision);
  const auto projection = cpu->prepare_projection(w1.view().row_range(0, kWidth));
  const Tensor tokens = cpu->prepare_table(table.view(), way().precision);
  const Tensor pixels = host_tensor(DType::u8, {kBatch, 224, 224, 3});
  const Tensor scratch = host_tensor(
      DType::u8, {static_cast<std::int64_t>(cpu->patch_embed_scratch(kBatch, 224, 32, kWidth, way().precision))});
  const std::vector<std::int32_t> ids(kRows, 3), positions(kRows, 7), offsets{0, 30, 100};

  const auto pass = [&] {
    PatchEmbedArgs embed;
    embed.pixels = pixels.view(), embed.weight = patch.get(), embed.class_embedding = gamma.host_vector();
    embed.position = position.view(), embed.scratch = scratch.view(), embed.out = x.view(), embed.patch = 32;
    cpu->patch_embed(embed);
    cpu->embed_tokens({ids.data(), positions.data(), tokens.view(), position.view(), x.view()});
    cpu->layer_norm({x.view(), gamma.host_vector(), gamma.host_vector(), 1e-5F, {h.view(), {}}});
    cpu->linear({h.view(), in.get(), bias_qkv.host_vector(), ActivationFn::none, {}, {qkv.view(), {}}});
    AttentionArgs a;
    a.q = qkv.view().column_range(0, kWidth), a.k = qkv.view().column_range(kWidth, kWidth);
    a.v = qkv.view().column_range(2 * kWidth, kWidth), a.out = h.view(), a.heads = 2, a.head_dim = 64;
    a.queries = a.keys = {2, 70, kRows, offsets.data()};
    a.causal = true;
    cpu->attention(a);
    cpu->linear({h.view(), fc1.get(), bias.host_vector(), ActivationFn::quick_gelu, {}, {wide.view(), {}}});
    cpu->linear({wide.view(), fc2.get(), bias_out.host_vector(), ActivationFn::none, x.view(), {x.view(), {}}});
    cpu->norm_linear({x.view(),
                      gamma.host_vector(),
                      gamma.host_vector(),
                      1e-5F,
                      way().precision,
                      in.get(),
                      bias_qkv.host_vector(),
                      ActivationFn::none,
                      {h.view(), {}},
                      {qkv.view(), {}}});
    cpu->select_rows({x.view(), nullptr, out.view(), 50});
    cpu->project({out.view(), projection.get(), true, out.view()});
    cpu->similarity({out.view(), out.view(), 1, View(x.view().data, DType::f32, {kBatch, kBatch})});
  };
  // oneDNN makes its plans in the first call, and builds its argument list on the heap in every one.
  if (cpu->isa() == "amx_bf16" || way().gemm == GemmEngine::onednn) GTEST_SKIP() << "oneDNN allocates inside";
  pass();
  allocations = 0;
  counting = true;
  pass();
  counting = false;
  EXPECT_EQ(allocations, 0);
  counting = true;
  void* volatile proof = std::malloc(10);
  counting = false;
  std::free(proof);
  EXPECT_EQ(allocations, 1) << "the counter does not count";
}

INSTANTIATE_TEST_SUITE_P(Ways, CpuAllocation, ::testing::ValuesIn(all_ways()), name_of);
INSTANTIATE_TEST_SUITE_P(Int8, CpuAllocation,
                         ::testing::Values(Way{"sse2", Precision::int8}, Way{"avx2", Precision::int8},
                                           Way{"avx512_vnni", Precision::int8}, Way{"avx512_bf16", Precision::int8}),
                         name_of);

}  // namespace
}  // namespace tandem::backend::test
