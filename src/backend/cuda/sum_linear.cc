#include "backend/cuda/sum_linear.h"

#include <algorithm>

#include "backend/cuda/eight_checks.h"

namespace tandem::backend::cuda {
namespace {

/// Of sums and of quantised rows that stand in memory at a time: no more than a large second-level cache holds, and
/// tiles enough to fill a device.
constexpr std::int64_t kRoom = std::int64_t{32} << 20;
/// Of int8: more could leave int32's range.
constexpr std::int64_t kMostInputs = std::int64_t{1} << 17;
constexpr std::int64_t kMostRows = std::int64_t{1} << 16;
/// cuBLASLt has no products of eight bits with few rows, and of E4M3 none with an odd number: those behind the last are
/// multiplied as they stand in memory, and nobody reads what becomes of them.
constexpr std::int64_t kLeastRows = 32, kRowStep = 16;

std::int64_t whole_rows(std::int64_t rows) {
  return std::max(kLeastRows, (rows + kRowStep - 1) / kRowStep * kRowStep);
}

/// Pieces are equal, but for the last.
std::int64_t rows_at_a_time(std::int64_t rows, std::int64_t outputs, std::int64_t inputs) {
  const std::int64_t most =
      std::min({kRoom / (outputs * static_cast<std::int64_t>(sizeof(float))), kRoom / inputs, kMostRows}) / kRowStep *
      kRowStep;
  const std::int64_t pieces = (rows + most - 1) / most;
  return std::min(most, whole_rows((rows + pieces - 1) / pieces));
}

}  // namespace

bool SumLinear::fits(ConstView weight, DType type) {
  const std::int64_t outputs = type == DType::f8e4m3 ? 16 : 8;  // of which cuBLASLt takes multiples
  return weight.columns() % 16 == 0 && weight.rows() % outputs == 0 && weight.columns() <= kMostInputs &&
         weight.rows() <= kRoom / kLeastRows / static_cast<std::int64_t>(sizeof(float));
}

void SumLinear::norm_linear(const NormLinearArgs& a, Ahead own) {
  require_eight(by_vectors(a.x) && aligned(a.gamma.data) && aligned(a.beta.data),
                "the input of a norm is not f16 in rows of 16 bytes");
  QuantizeRowsCall q;
  q.x = a.x.data, q.rows = a.x.rows(), q.columns = a.x.columns(), q.ldx = a.x.stride;
  q.gamma = a.gamma.as<float>(), q.beta = a.beta.as<float>(), q.eps = a.eps, q.ahead = own;
  FinishCall f;
  f.bias = a.bias.as<float>(), f.fn = a.fn, f.out = a.out.view;
  run(static_cast<const CudaWeight&>(*a.weight), q, f);
}

void SumLinear::linear(const LinearArgs& a) {
  const ConstView x = a.x.view;
  require_eight(by_vectors(x), "x is not f16 in rows of 16 bytes");
  QuantizeRowsCall q;
  q.x = x.data, q.rows = x.rows(), q.columns = x.columns(), q.ldx = x.stride;
  FinishCall f;
  f.bias = a.bias.as<float>(), f.fn = a.fn, f.residual = a.residual, f.out = a.out.view;
  run(static_cast<const CudaWeight&>(*a.weight), q, f);
}

void SumLinear::run(const CudaWeight& w, QuantizeRowsCall rows, FinishCall end) {
  const View out = end.out;
  const ConstView residual = end.residual;
  require_eight(by_vectors(out) && (!residual || by_vectors(residual)), "the result is not f16 in rows of 16 bytes");
  require_eight(aligned(end.bias), "the bias is not at a multiple of 16 bytes");
  if (rows.rows == 0) return;
  // A pass that is recorded was issued once before.
  if (rows_.data() == nullptr) {
    rows_ = allocate_device(health_, device_, static_cast<std::size_t>(kRoom) + kMostRows * sizeof(float));
    sums_ = allocate_device(health_, device_, static_cast<std::size_t>(kRoom));
  }
  const auto* x = static_cast<const std::byte*>(rows.x);
  const std::int64_t all = rows.rows, piece = rows_at_a_time(all, w.outputs(), w.inputs());
  rows.type = w.type(), rows.step = w.input_scale;
  rows.out = rows_.data(), rows.scales = reinterpret_cast<float*>(rows_.data() + kRoom);
  for (std::int64_t first = 0; first < all; first += piece) {
    rows.x = x + first * rows.ldx * 2, rows.rows = std::min(piece, all - first);
    health_.check(rows.gamma != nullptr ? quantize_norm(rows, queue_) : quantize_rows(rows, queue_), "linear");
    rows.ahead = {};
    MatmulCall m;
    m.x = rows.out, m.rows = whole_rows(rows.rows), m.ldx = w.inputs();
    m.weight = w.data(), m.outputs = w.outputs(), m.inputs = w.inputs(), m.ldw = w.stride(), m.in = w.type();
    m.out = sums_.data(), m.ldo = w.outputs(), m.type = w.type() == DType::i8 ? DType::i32 : DType::f32;
    matmul_.run(m);
    end.sums = {sums_.data(), m.type, {rows.rows, w.outputs()}};
    end.row_scales = rows.scales, end.column_scales = w.scales.view().as<float>();
    end.out = out.row_range(first, rows.rows);
    if (residual) end.residual = residual.row_range(first, rows.rows);
    health_.check(finish_sums(end, queue_), "linear");
  }
}

}  // namespace tandem::backend::cuda
