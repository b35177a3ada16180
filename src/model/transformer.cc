#include "model/transformer.h"

#include <algorithm>

namespace tandem::model {
namespace {

using backend::ActivationFn;

/// A matrix inside another's memory, at an element offset.
View inside(View memory, std::int64_t element, std::int64_t rows, std::int64_t columns) {
  const auto size = static_cast<std::int64_t>(size_of(memory.dtype));
  return {memory.data == nullptr ? nullptr : memory.data + element * size, memory.dtype, {rows, columns}};
}

/// out = fn(W ln(x) + b); h is room for ln(x).
void norm_linear(Execution& ex, const TowerConfig& c, const Norm& norm, const Linear& w, ConstView x, View h, View out,
                 ActivationFn fn = ActivationFn::none, const Linear* reader = nullptr) {
  ex.backend.norm_linear({x,
                          norm.gamma.view(),
                          norm.beta.view(),
                          c.norm_eps,
                          ex.precision,
                          w.weight.get(),
                          w.bias.view(),
                          fn,
                          {h, {}},
                          {out, {}},
                          reader != nullptr ? reader->weight.get() : nullptr});
}

/// x = x + W h + b, summed over the ranks that share W; bias and residual are rank 0's.
void add_linear(Execution& ex, const Linear& w, ConstView h, View x) {
  const bool first = ex.comm.rank() == 0;
  ex.backend.linear({h,
                     w.weight.get(),
                     first ? ConstView(w.bias.view()) : ConstView(),
                     ActivationFn::none,
                     first ? ConstView(x) : ConstView(),
                     {x, {}},
                     nullptr});
  ex.comm.all_reduce_sum(x, ex.backend.stream());
}

/// As many rows are enough to fill a device: their MLP is computed in one piece.
constexpr std::int64_t kMlpRows = 32768;

/// The MLP's rows at a time where there is room for the middle of `most` rows. Pieces are equal, so that half a batch
/// is multiplied as a batch of half the size is: by the algorithm that was found fastest for that.
std::int64_t mlp_piece(std::int64_t rows, std::int64_t most) {
  if (rows <= most) return std::max<std::int64_t>(rows, 1);
  const std::int64_t pieces = (rows + most - 1) / most;
  return (rows + pieces - 1) / pieces;
}

/// The shared prefix attends to itself, every sequence to the prefix and itself.
void attend(Execution& ex, const TowerConfig& c, ConstView q, ConstView k, ConstView v, const Layout& layout,
            bool causal, View out, const Linear& reader) {
  const std::int64_t p = layout.prefix, n = layout.own.rows;
  backend::AttentionArgs a;
  a.heads = c.heads / ex.comm.size(), a.head_dim = c.head_dim, a.causal = causal, a.precision = ex.precision;
  a.reader = reader.weight.get();
  if (p > 0) {
    a.q = q.row_range(0, p), a.k = k.row_range(0, p), a.v = v.row_range(0, p);
    a.queries = a.keys = {1, p, p, nullptr};
    a.out = out.row_range(0, p);
    ex.backend.attention(a);
    a.prefix_k = a.k, a.prefix_v = a.v;
  }
  a.q = q.row_range(p, n), a.k = k.row_range(p, n), a.v = v.row_range(p, n);
  a.queries = a.keys = layout.own;
  a.out = out.row_range(p, n);
  ex.backend.attention(a);
}

/// What this rank computes of a tower: `heads` heads, so A columns of queries, keys and values, and its share of the
/// MLP's columns (F). Every rank has the whole stream.
struct Part {
  Part(const Execution& ex, const TowerConfig& c)
      : heads(c.heads / ex.comm.size()),
        columns(static_cast<std::int64_t>(heads) * c.head_dim),
        mlp(c.mlp / ex.comm.size()) {}
  int heads;
  std::int64_t columns, mlp;
};

/// x = x + mlp(ln_2(x)), in as few pieces of rows as there is room for their middle.
void mlp(Execution& ex, const TowerConfig& c, const BlockWeights& w, View x, View h, View wide) {
  const std::int64_t rows = x.rows(), columns = Part(ex, c).mlp;
  const std::int64_t piece = mlp_piece(rows, wide.shape.elements() / columns);
  for (std::int64_t first = 0; first < rows; first += piece) {
    const std::int64_t n = std::min(piece, rows - first);
    const View m = inside(wide, 0, n, columns);
    const View part = x.row_range(first, n);
    // m = gelu(W1 ln_2(x) + b1)   [n, F]
    norm_linear(ex, c, w.ln_2, w.fc1, part, h.row_range(first, n), m, c.activation, &w.fc2);
    add_linear(ex, w.fc2, m, part);  // x = x + W2 m + b2     [n, D]
  }
}

void block(Execution& ex, const TowerConfig& c, const BlockWeights& w, const Layout& layout, bool causal,
           TowerState& s) {
  const std::int64_t rows = layout.rows(), n = Part(ex, c).columns;
  const View qkv = inside(s.wide, 0, rows, 3 * n), attended = inside(s.h, 0, rows, n);
  norm_linear(ex, c, w.ln_1, w.qkv, s.x, s.h, qkv);  // of ln_1(x)  [M, 3A], after which h is free for the attended rows
  attend(ex, c, qkv.column_range(0, n), qkv.column_range(n, n), qkv.column_range(2 * n, n), layout, causal, attended,
         w.out);
  add_linear(ex, w.out, attended, s.x);  // x = x + Wo a + bo     [M, D]
  mlp(ex, c, w, s.x, s.h, s.wide);
}

/// The last block needs keys and values of every row, and everything else only of the rows that pooling reads. Such a
/// row is its sequence's last (end of text) or sees all of them (class token), so no mask remains.
void last_block(Execution& ex, const TowerConfig& c, const BlockWeights& w, const Layout& layout, TowerState& s) {
  const Part part(ex, c);
  const std::int64_t rows = layout.rows(), count = layout.own.count, n = part.columns, p = layout.prefix;
  // Behind k and v is room for the normalised rows, and once q is there, for the attended ones. q takes the place of h.
  const View kv = inside(s.wide, 0, rows, 2 * n), q = inside(s.h, 0, count, n);
  const View chosen = inside(s.wide, 2 * rows * n, count, c.width), attended = inside(s.wide, 2 * rows * n, count, n);
  norm_linear(ex, c, w.ln_1, w.kv, s.x, s.h, kv);  // k, v of ln_1(x)              [M, 2A]
  ex.backend.select_rows({s.x, layout.pooled, s.selected, layout.own.longest});
  norm_linear(ex, c, w.ln_1, w.q, s.selected, chosen, q);  // q of the pooled rows  [B, A]
  backend::AttentionArgs a;
  a.heads = part.heads, a.head_dim = c.head_dim, a.precision = ex.precision;
  a.reader = w.out.weight.get();
  if (p > 0) a.prefix_k = kv.column_range(0, n).row_range(0, p), a.prefix_v = kv.column_range(n, n).row_range(0, p);
  a.q = q, a.k = kv.column_range(0, n).row_range(p, rows - p), a.v = kv.column_range(n, n).row_range(p, rows - p);
  a.queries = {count, 1, count, nullptr}, a.keys = layout.own;
  a.out = attended;
  ex.backend.attention(a);  // one query a sequence  [B, A]
  add_linear(ex, w.out, attended, s.selected);
  mlp(ex, c, w, s.selected, s.h.row_range(0, count), s.wide);
}

/// Elements of the room for q, k and v and for the MLP's middle.
std::int64_t wide_elements(const TowerConfig& c, std::int64_t rows) {
  // q, k and v of every row, or of the last block k, v and B <= M chosen rows: 3 M D elements. The MLP's middle of many
  // rows is made in pieces that fit; as many rows as kMlpRows have room for all of it. More rows never need less, so
  // that a plan for the largest batch is one for every batch.
  return std::max(std::min(rows, kMlpRows) * std::max<std::int64_t>(4 * c.width, c.mlp), 3 * rows * c.width);
}

}  // namespace

TowerState take_state(Arena& arena, const TowerConfig& c, const backend::ComputeTypes& types, std::int64_t rows,
                      std::int64_t count, int embed_dim, std::size_t least_wide) {
  TowerState s;
  const auto one = static_cast<std::int64_t>(size_of(types.activation));
  const std::int64_t least = (static_cast<std::int64_t>(least_wide) + one - 1) / one;
  s.x = arena.take(types.residual, {rows, c.width});
  s.h = arena.take(types.activation, {rows, c.width});
  s.wide = arena.take(types.activation, {std::max(wide_elements(c, rows), least)});
  s.selected = arena.take(types.residual, {count, c.width});
  s.pooled = arena.take(DType::f32, {count, c.width});
  s.projected = arena.take(DType::f32, {count, embed_dim});
  return s;
}

std::size_t backend_bytes(const backend::Backend& backend, Precision precision, const TowerConfig& c,
                          std::int64_t rows) {
  const std::int64_t middle = std::min(rows, wide_elements(c, rows) / c.mlp);
  return std::max(backend.linear_scratch(rows, c.width, precision), backend.linear_scratch(middle, c.mlp, precision));
}

void run_blocks(Execution& ex, const TowerConfig& config, const BlockStore& blocks, const Layout& layout, bool causal,
                TowerState& state, const Observer& observer) {
  const int last = blocks.count() - 1;
  for (int i = 0; i < last; ++i) {
    block(ex, config, *HeldBlock(blocks, i, ex.backend), layout, causal, state);
    if (observer) observer(i, state.x);
  }
  last_block(ex, config, *HeldBlock(blocks, last, ex.backend), layout, state);
  if (observer) observer(last, state.selected);
}

}  // namespace tandem::model
