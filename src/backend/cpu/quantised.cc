#include "backend/cpu/quantised.h"

#include <algorithm>

#include "backend/cpu/huge_pages.h"

namespace tandem::backend::cpu {
namespace {

/// Elements below which waking other threads costs more than it saves.
constexpr std::int64_t kSmall = 1 << 14;

void make_room(Buffer& buffer, std::size_t bytes) {
  if (buffer.bytes() < bytes) buffer = allocate_pages(bytes);
}

}  // namespace

void QuantisedRows::take(const Kernels& kernels, Workspace& workspace, Team& team, ConstView x, const RowNorm& norm,
                         float step) {
  const std::int64_t rows = x.rows(), width = x.columns();
  stride_ = quantised_bytes(kernels, width);
  make_room(rows_, static_cast<std::size_t>(rows * stride_));
  make_room(steps_, static_cast<std::size_t>(rows) * sizeof(float));
  workspace.reserve(static_cast<std::size_t>((width + 15) / 16 * 16) * sizeof(float));
  const auto size = static_cast<std::int64_t>(size_of(x.dtype));
  const std::int64_t tasks = std::min<std::int64_t>(rows, 4 * team.threads());
  team.run(tasks, rows * width <= kSmall, [&](std::int64_t t, int thread) {
    const std::int64_t first = rows * t / tasks, last = rows * (t + 1) / tasks;
    QuantiseRows q{};
    q.x = x.data + first * x.stride * size;
    q.bf16 = x.dtype == DType::bf16;
    q.rows = last - first, q.width = width, q.ldx = x.stride;
    q.gamma = norm.gamma, q.beta = norm.beta, q.eps = norm.eps;
    q.step = step;
    q.room = reinterpret_cast<float*>(workspace.of(thread));
    q.out = rows_.data() + first * stride_, q.ldo = stride_;
    q.steps = reinterpret_cast<float*>(steps_.data()) + first;
    kernels.quantise(q);
  });
}

}  // namespace tandem::backend::cpu
