#include "search/dot.h"

#include <cstring>

namespace tandem::search {
namespace {

// Eight lanes; the compiler maps them to what the target function may use.
using Lanes [[gnu::vector_size(32)]] = float;
constexpr std::size_t kLanes = 8;

// Two accumulators hide the latency of the additions; their order is the same for every row.
[[gnu::always_inline]] inline float dot(const float* a, const float* b, std::size_t dim) {
  Lanes sum0{}, sum1{};
  std::size_t i = 0;
  for (; i + 2 * kLanes <= dim; i += 2 * kLanes) {
    Lanes a0, a1, b0, b1;
    std::memcpy(&a0, a + i, sizeof(Lanes));
    std::memcpy(&b0, b + i, sizeof(Lanes));
    std::memcpy(&a1, a + i + kLanes, sizeof(Lanes));
    std::memcpy(&b1, b + i + kLanes, sizeof(Lanes));
    sum0 += a0 * b0;
    sum1 += a1 * b1;
  }
  sum0 += sum1;
  float sum = 0;
  for (std::size_t lane = 0; lane < kLanes; ++lane) sum += sum0[lane];
  for (; i < dim; ++i) sum += a[i] * b[i];
  return sum;
}

[[gnu::target("avx2,fma")]] void dot_rows_avx2(const float* query, const float* rows, std::size_t count,
                                               std::size_t dim, float* scores) {
  for (std::size_t r = 0; r < count; ++r) scores[r] = dot(query, rows + r * dim, dim);
}

}  // namespace

void dot_rows_portable(const float* query, const float* rows, std::size_t count, std::size_t dim, float* scores) {
  for (std::size_t r = 0; r < count; ++r) scores[r] = dot(query, rows + r * dim, dim);
}

DotRows choose_dot_rows() noexcept {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? dot_rows_avx2 : dot_rows_portable;
}

}  // namespace tandem::search
