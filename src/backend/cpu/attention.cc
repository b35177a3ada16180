#include "backend/cpu/attention.h"

#include <algorithm>
#include <cmath>

namespace tandem::backend::cpu {
namespace {

/// Query rows whose scores stand in the cache together.
constexpr std::int64_t kBlock = 28;
constexpr std::int64_t kSmall = 1 << 15;

std::int64_t round_up(std::int64_t n, std::int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

std::int64_t first_row(const Sequences& s, std::int64_t i) {
  return s.offsets != nullptr ? s.offsets[i] : i * s.longest;
}

/// One call's constants, and where a thread's scratch memory has what.
struct Plan {
  const Kernels& kernels;
  const AttentionArgs& args;
  bool bf16;
  std::int64_t element, prefix, most_keys, key_units, padded_keys, value_panels;
  std::size_t keys_at, values_at, scores_at, weights_at, sums_at, partial_at, bytes;
  float scale;

  Plan(const Kernels& k, const AttentionArgs& a)
      : kernels(k),
        args(a),
        bf16(a.q.dtype == DType::bf16),
        element(bf16 ? 2 : 4),
        prefix(a.prefix_k ? a.prefix_k.rows() : 0),
        most_keys(prefix + a.keys.longest),
        key_units(bf16 ? (a.head_dim + 1) / 2 : a.head_dim),
        padded_keys(round_up(most_keys, k.panel)),
        value_panels(round_up(a.head_dim, k.panel)),
        scale(static_cast<float>(1 / std::sqrt(static_cast<double>(a.head_dim)))) {
    std::size_t at = 0;
    const auto take = [&at](std::int64_t n, std::int64_t size) {
      const std::size_t begin = at;
      at += static_cast<std::size_t>(round_up(n * size, 64));
      return begin;
    };
    keys_at = take(padded_keys * key_units, 4);
    values_at = take(value_panels * (bf16 ? (most_keys + 1) / 2 : most_keys), 4);
    scores_at = take(kBlock * padded_keys, 4);
    weights_at = take(kBlock * padded_keys, element);
    sums_at = take(kBlock, 4);
    partial_at = take(kBlock * k.panel, 4);
    bytes = at;
  }

  const std::byte* column(ConstView v, int head) const {
    return v ? v.data + static_cast<std::int64_t>(head) * args.head_dim * element : nullptr;
  }
  HeadRows rows_of(ConstView before, ConstView own, int head, std::int64_t first, std::int64_t count) const {
    return {column(before, head),
            column(own, head) + first * own.stride * element,
            before ? before.stride : 0,
            own.stride,
            prefix,
            count,
            args.head_dim};
  }
};

/// scores = q k^T for a block of queries and the first `keys` keys; weights = softmax; out = weights v / sum.
void block(const Plan& plan, const std::byte* q, std::byte* out, std::int64_t rows, std::int64_t keys,
           std::int64_t limit, std::int64_t all_keys, std::byte* scratch) {
  const Kernels& k = plan.kernels;
  const AttentionArgs& a = plan.args;
  auto* scores = reinterpret_cast<float*>(scratch + plan.scores_at);
  auto* sums = reinterpret_cast<float*>(scratch + plan.sums_at);
  const auto product = plan.bf16 ? k.gemm_bf16 : k.gemm_f32;

  GemmBlock g{};
  g.a = q, g.lda = a.q.stride * plan.element;
  g.steps = plan.key_units;
  g.odd_tail = plan.bf16 && a.head_dim % 2 != 0;
  g.first = true, g.last = false;  // the sums are the scores
  g.rows = rows;
  for (std::int64_t n = 0; n < keys; n += k.panel) {
    g.panel = scratch + plan.keys_at + n * plan.key_units * 4;
    g.columns = static_cast<int>(std::min<std::int64_t>(k.panel, keys - n));
    g.partial = scores + n * kBlock;
    product(g);
  }

  SoftmaxRows s{};
  s.scores = scores, s.weights = scratch + plan.weights_at, s.inverse_sums = sums;
  s.rows = rows, s.panel_stride = kBlock * k.panel, s.ldw = plan.padded_keys;
  s.limit = limit, s.limit_step = a.causal ? 1 : 0, s.padded = round_up(keys, 2), s.scale = plan.scale;
  (plan.bf16 ? k.softmax_bf16 : k.softmax_f32)(s);

  g.last = true;
  g.partial = reinterpret_cast<float*>(scratch + plan.partial_at);
  g.a = s.weights, g.lda = plan.padded_keys * plan.element;
  g.steps = plan.bf16 ? (keys + 1) / 2 : keys;
  g.odd_tail = false;  // the weights end with a zero
  g.row_scale = sums;
  g.out_bf16 = plan.bf16, g.ldo = a.out.stride;
  const std::int64_t value_units = plan.bf16 ? (all_keys + 1) / 2 : all_keys;
  for (std::int64_t n = 0; n < a.head_dim; n += k.panel) {
    g.panel = scratch + plan.values_at + n * value_units * 4;
    g.columns = static_cast<int>(std::min<std::int64_t>(k.panel, a.head_dim - n));
    g.out = out + n * plan.element;
    product(g);
  }
}

/// Query rows [begin, end) of one head of one sequence.
void run(const Plan& plan, std::int64_t sequence, int head, std::int64_t part, std::int64_t parts, std::byte* scratch) {
  const AttentionArgs& a = plan.args;
  const Kernels& k = plan.kernels;
  const std::int64_t q0 = first_row(a.queries, sequence), queries = first_row(a.queries, sequence + 1) - q0;
  const std::int64_t k0 = first_row(a.keys, sequence), own = first_row(a.keys, sequence + 1) - k0;
  const std::int64_t begin = queries * part / parts, end = queries * (part + 1) / parts;
  if (begin == end) return;
  const HeadRows keys = plan.rows_of(a.prefix_k, a.k, head, k0, own);
  const HeadRows values = plan.rows_of(a.prefix_v, a.v, head, k0, own);
  const std::byte* q = plan.column(a.q, head) + q0 * a.q.stride * plan.element;
  std::byte* out = a.out.data + (q0 * a.out.stride + static_cast<std::int64_t>(head) * a.head_dim) * plan.element;

  if (queries == 1) {
    auto* scores = reinterpret_cast<float*>(scratch + plan.scores_at);
    (plan.bf16 ? k.attend_one_bf16 : k.attend_one_f32)(q, keys, values, plan.scale, scores, out);
    return;
  }
  const std::int64_t all = plan.prefix + own;
  (plan.bf16 ? k.pack_keys_bf16 : k.pack_keys_f32)(keys, scratch + plan.keys_at);
  (plan.bf16 ? k.pack_values_bf16 : k.pack_values_f32)(values, scratch + plan.values_at);
  const std::int64_t blocks = (end - begin + kBlock - 1) / kBlock;
  for (std::int64_t i = 0; i < blocks; ++i) {
    const std::int64_t first = begin + (end - begin) * i / blocks, last = begin + (end - begin) * (i + 1) / blocks;
    const std::int64_t limit = a.causal ? plan.prefix + first + 1 : all;
    block(plan, q + first * a.q.stride * plan.element, out + first * a.out.stride * plan.element, last - first,
          a.causal ? plan.prefix + last : all, limit, all, scratch);
  }
}

}  // namespace

void attention(const Kernels& kernels, Workspace& workspace, Team& team, const AttentionArgs& args) {
  if (args.queries.rows == 0) return;
  const Plan plan(kernels, args);
  workspace.reserve(plan.bytes);
  const std::int64_t heads = args.queries.count * args.heads;
  // Few heads for many threads: each packs the keys again and takes a part of the queries.
  const std::int64_t parts = heads >= 2 * team.threads()
                                 ? 1
                                 : std::clamp<std::int64_t>(2 * team.threads() / heads, 1,
                                                            std::max<std::int64_t>(1, args.queries.longest / kBlock));
  const std::int64_t work = args.queries.rows * plan.most_keys * args.heads * args.head_dim;
  team.run(heads * parts, work <= kSmall, [&](std::int64_t t, int thread) {
    const std::int64_t head = t / parts;
    run(plan, head / args.heads, static_cast<int>(head % args.heads), t % parts, parts, workspace.of(thread));
  });
}

}  // namespace tandem::backend::cpu
