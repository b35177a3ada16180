#include "backend/cpu/gemm.h"

#include <algorithm>

namespace tandem::backend::cpu {
namespace {

// Sizes that keep a block's part of a panel and its rows in a second-level cache of 1 MB; measured by
// bench/matmul_bound on ViT-B/32 and ViT-L/14.
constexpr std::int64_t kRows = 192, kSteps = 1024;
/// Rows for each thread from which dividing them evenly does not shorten groups much.
constexpr std::int64_t kAlignedRows = 64;
/// Multiply-adds below which waking other threads costs more than it saves.
constexpr std::int64_t kSmall = 1 << 16;

std::int64_t parts(std::int64_t n, std::int64_t size) {
  return (n + size - 1) / size;
}

/// Lines to ask for in every eighth step, so that `bytes` are there when the block ends. None where a block is too
/// short for it, as its rows then hide nothing.
int ahead_lines(const Kernels& kernels, const GemmBlock& g, std::int64_t bytes) {
  const std::int64_t places = g.steps / kAheadSteps * parts(g.rows, kernels.max_rows);
  return places == 0 ? 0 : static_cast<int>(std::min<std::int64_t>(parts(bytes / 64, places), 4 * kAheadSteps));
}

/// One panel for one group of rows, over all inputs.
void run(const Kernels& kernels, const GemmCall& call, std::int64_t first, std::int64_t rows, std::int64_t p,
         std::int64_t next, float* partial) {
  const PackedWeight& w = *call.weight;
  const std::int64_t n = p * w.panel();
  GemmBlock g{};
  g.lda = call.lda * (w.int8() ? 1 : w.bf16() ? 2 : 4);
  const std::int64_t step_bytes = w.int8() ? quantised_bytes(kernels, 64) / 16 : 4;
  if (w.int8()) {
    g.begin_with = w.begin_with() + n, g.column_scale = w.scales() + n;
    g.row_scale = call.row_scale + first;
  }
  g.partial = partial;
  g.rows = rows;
  g.columns = static_cast<int>(std::min<std::int64_t>(w.panel(), w.outputs() - n));
  g.bias = call.bias != nullptr ? call.bias + n : nullptr;
  g.fn = static_cast<int>(call.fn);
  const std::int64_t out_element = call.out_bf16 ? 2 : 4;
  g.out = static_cast<std::byte*>(call.out) + n * out_element;
  g.out_bf16 = call.out_bf16;
  if (call.residual != nullptr) g.residual = static_cast<const std::byte*>(call.residual) + n * out_element;
  g.ldr = call.ldr, g.ldo = call.ldo;
  g.first_row = first;
  g.group = call.group, g.out_group = call.out_group, g.residual_group = call.residual_group;

  const auto* a = static_cast<const std::byte*>(call.a) + first * g.lda;
  const std::byte* panel = w.data() + p * w.panel_bytes();
  const std::int64_t steps = w.steps(), blocks = parts(steps, kSteps);
  for (std::int64_t b = 0; b < blocks; ++b) {
    const std::int64_t s0 = steps * b / blocks, s1 = steps * (b + 1) / blocks;
    g.a = a + s0 * step_bytes;
    g.panel = panel + s0 * w.panel() * 4;
    g.steps = s1 - s0;
    g.first = b == 0, g.last = b + 1 == blocks;
    if (!g.last || next >= 0) {
      const std::int64_t ahead_steps = g.last ? parts(steps, blocks) : steps * (b + 2) / blocks - s1;
      g.ahead = g.last ? w.data() + next * w.panel_bytes() : panel + s1 * w.panel() * 4;
      g.ahead_lines = ahead_lines(kernels, g, ahead_steps * w.panel() * 4);
    } else {
      g.ahead = nullptr, g.ahead_lines = 0;
    }
    g.odd_tail = g.last && w.bf16() && w.inputs() % 2 != 0;
    (w.int8() ? kernels.gemm_int8 : w.bf16() ? kernels.gemm_bf16 : kernels.gemm_f32)(g);
  }
}

}  // namespace

void gemm(const Kernels& kernels, Workspace& workspace, Team& team, const GemmCall& call) {
  if (call.rows == 0) return;
  const PackedWeight& w = *call.weight;
  const std::int64_t panels = parts(w.outputs(), w.panel());
  std::int64_t chunks = parts(call.rows, kRows);
  // As many groups of rows for every thread, so that the same rows are the same thread's in every operation.
  if (call.rows >= team.threads() * kAlignedRows) chunks = parts(chunks, team.threads()) * team.threads();
  // Few panels for many threads: shorter groups of rows.
  if (panels * chunks < 4 * team.threads()) {
    chunks = std::clamp(parts(4 * static_cast<std::int64_t>(team.threads()), panels), chunks,
                        std::max<std::int64_t>(chunks, call.rows / (2 * kernels.max_rows)));
  }
  const std::int64_t tasks = panels * chunks;
  workspace.reserve(static_cast<std::size_t>(kRows * w.panel()) * sizeof(float));
  team.run(tasks, call.rows * w.outputs() * w.inputs() <= kSmall, [&](std::int64_t t, int thread) {
    const std::int64_t chunk = t / panels, first = call.rows * chunk / chunks;
    // A thread takes one task after the other, more or less.
    const std::int64_t p = t % panels, next = t + 1 < tasks ? (t + 1) % panels : -1;
    run(kernels, call, first, call.rows * (chunk + 1) / chunks - first, p, next == p ? -1 : next,
        reinterpret_cast<float*>(workspace.of(thread)));
  });
}

}  // namespace tandem::backend::cpu
