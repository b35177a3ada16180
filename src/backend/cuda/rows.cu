// Rows looked up, chosen and normalised.
//   embed_tokens  out[r] = table[ids[r]] + position[positions[r]]
//   select_rows   out[i] = x[rows[i]], or x[i * every]
//   copy_rows     out[r] = x[r] / |x[r]|_2
#include "backend/cuda/device.cuh"
#include "backend/cuda/kernels.h"
#include "backend/cuda/overlap.cuh"

namespace tandem::backend::cuda {
namespace {

constexpr int kThreads = 256;

template <class Table, class Out>
struct EmbedCall {
  const std::int32_t *ids, *positions;
  const Table* table;
  const float* position;
  Out* out;
  std::int64_t ldt, ldp, ldo, rows, units;
};

template <class Table, class Out, int kWidth>
__global__ void __launch_bounds__(kThreads) embed_kernel(const EmbedCall<Table, Out> c) {
  wait_for_previous();
  let_next_begin();
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= c.rows * c.units) return;
  const std::int64_t row = i / c.units, column = i % c.units * kWidth;
  float token[kWidth], position[kWidth];
  load<kWidth>(c.table + c.ids[row] * c.ldt + column, token);
  load<kWidth>(c.position + c.positions[row] * c.ldp + column, position);
#pragma unroll
  for (int k = 0; k < kWidth; ++k) token[k] += position[k];
  store<kWidth>(c.out + row * c.ldo + column, token);
}

/// Rows of `units` words.
template <class Word>
__global__ void __launch_bounds__(kThreads)
    select_kernel(const Word* x, std::int64_t ldx, const std::int32_t* rows, std::int64_t every, Word* out,
                  std::int64_t ldo, std::int64_t count, std::int64_t units) {
  wait_for_previous();
  let_next_begin();
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count * units) return;
  const std::int64_t row = i / units, column = i % units;
  const std::int64_t from = rows != nullptr ? rows[row] : row * every;
  out[row * ldo + column] = x[from * ldx + column];
}

/// A block takes a row.
__global__ void __launch_bounds__(kThreads)
    copy_kernel(const float* x, std::int64_t ldx, float* out, std::int64_t ldo, int width, bool normalize) {
  wait_for_previous();
  let_next_begin();
  x += blockIdx.x * ldx, out += blockIdx.x * ldo;
  float scale = 1;
  if (normalize) {
    __shared__ float parts[kThreads / 32];
    float squares = 0;
    for (int i = static_cast<int>(threadIdx.x); i < width; i += kThreads) squares += x[i] * x[i];
    squares = warp_sum(squares);
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = squares;
    __syncthreads();
    float sum = 0;
#pragma unroll
    for (const float part : parts) sum += part;
    scale = 1 / sqrtf(sum);
  }
  for (int i = static_cast<int>(threadIdx.x); i < width; i += kThreads) out[i] = x[i] * scale;
}

template <class Word>
cudaError_t select(const SelectRowsArgs& a, Queue queue) {
  const auto size = static_cast<std::int64_t>(size_of(a.x.dtype)), word = static_cast<std::int64_t>(sizeof(Word));
  const std::int64_t units = a.x.columns() * size / word, count = a.out.rows();
  return launch_kernel(select_kernel<Word>, blocks_for(count * units, kThreads), kThreads, queue, a.x.as<Word>(),
                       a.x.stride * size / word, a.rows, a.every, a.out.as<Word>(), a.out.stride * size / word, count,
                       units);
}

}  // namespace

cudaError_t embed_tokens(const EmbedTokensArgs& a, Queue queue) {
  if (a.out.rows() == 0) return cudaSuccess;
  const bool vectors = vectors_fit(a.table) && vectors_fit(a.position) && vectors_fit(a.out);
  const std::int64_t units = a.out.columns() / (vectors ? 8 : 1);
  const unsigned blocks = blocks_for(a.out.rows() * units, kThreads);
  return with_type(a.table.dtype, [&](auto table) {
    return with_type(a.out.dtype, [&](auto out) {
      using Table = decltype(table);
      using Out = decltype(out);
      const EmbedCall<Table, Out> c{a.ids,           a.positions,    a.table.as<Table>(), a.position.as<float>(),
                                    a.out.as<Out>(), a.table.stride, a.position.stride,   a.out.stride,
                                    a.out.rows(),    units};
      return launch_kernel(vectors ? embed_kernel<Table, Out, 8> : embed_kernel<Table, Out, 1>, blocks, kThreads, queue,
                           c);
    });
  });
}

cudaError_t select_rows(const SelectRowsArgs& a, Queue queue) {
  if (a.out.rows() == 0) return cudaSuccess;
  const auto size = static_cast<std::int64_t>(size_of(a.x.dtype));
  const auto fits = [&](std::int64_t word) {
    const auto addresses = reinterpret_cast<std::uintptr_t>(a.x.data) | reinterpret_cast<std::uintptr_t>(a.out.data);
    return (a.x.columns() * size | a.x.stride * size | a.out.stride * size) % word == 0 &&
           addresses % static_cast<std::uintptr_t>(word) == 0;
  };
  if (fits(16)) return select<uint4>(a, queue);
  if (fits(4)) return select<std::uint32_t>(a, queue);
  if (fits(2)) return select<std::uint16_t>(a, queue);
  return select<std::uint8_t>(a, queue);
}

cudaError_t copy_rows(ConstView x, View out, bool normalize, Queue queue) {
  if (out.rows() == 0) return cudaSuccess;
  return launch_kernel(copy_kernel, static_cast<unsigned>(out.rows()), kThreads, queue, x.as<float>(), x.stride,
                       out.as<float>(), out.stride, static_cast<int>(out.columns()), normalize);
}

}  // namespace tandem::backend::cuda
