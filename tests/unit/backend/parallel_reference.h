// The reference backend on every core: what it computes is the same, row by row and head by head.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <thread>

#include "backend/forwarding_backend.h"
#include "backend/reference/reference_backend.h"
#include "base/parallel_for.h"

namespace tandem::backend::test {

class ParallelReference final : public ForwardingBackend {
 public:
  ParallelReference() : ParallelReference(make_reference_backend()) {}

  void layer_norm(const LayerNormArgs& a) override {
    in_parallel(a.x.rows(), 8 * a.x.shape.elements(), [&](std::int64_t first, std::int64_t count) {
      LayerNormArgs part = a;
      part.x = a.x.row_range(first, count), part.out.view = a.out.view.row_range(first, count);
      to_.layer_norm(part);
    });
  }
  void linear(const LinearArgs& a) override {
    in_parallel(a.x.view.rows(), a.x.view.shape.elements() * a.weight->outputs(),
                [&](std::int64_t first, std::int64_t count) {
                  LinearArgs part = a;
                  part.x = a.x.view.row_range(first, count), part.out.view = a.out.view.row_range(first, count);
                  if (a.residual) part.residual = a.residual.row_range(first, count);
                  to_.linear(part);
                });
  }
  // By this object's own parts.
  void norm_linear(const NormLinearArgs& a) override { Backend::norm_linear(a); }
  void norm_project(const NormProjectArgs& a) override { Backend::norm_project(a); }
  void project(const ProjectArgs& a) override {
    in_parallel(a.x.rows(), a.x.shape.elements() * a.out.columns(), [&](std::int64_t first, std::int64_t count) {
      ProjectArgs part = a;
      part.x = a.x.row_range(first, count), part.out = a.out.row_range(first, count);
      to_.project(part);
    });
  }
  void similarity(const SimilarityArgs& a) override {
    in_parallel(a.a.rows(), a.a.shape.elements() * a.b.rows(), [&](std::int64_t first, std::int64_t count) {
      SimilarityArgs part = a;
      part.a = a.a.row_range(first, count), part.out = a.out.row_range(first, count);
      to_.similarity(part);
    });
  }
  /// Sequences of equal length are attended one by one, and without a mask each in parts of its queries; others
  /// together, by heads.
  void attention(const AttentionArgs& a) override {
    const std::int64_t terms =
        a.queries.rows * a.heads * a.head_dim * (a.keys.longest + (a.prefix_k ? a.prefix_k.rows() : 0));
    const bool uniform = a.queries.offsets == nullptr && a.keys.offsets == nullptr;
    // A mask needs to know where a sequence begins.
    const std::int64_t step = a.causal ? a.queries.longest : 1;
    if (!uniform || step == 0) {
      return in_parallel(a.heads, 2 * terms, [&](std::int64_t first, std::int64_t count) {
        to_.attention(heads(a, static_cast<int>(first), static_cast<int>(count)));
      });
    }
    in_parallel(a.queries.count * a.queries.longest / step, 2 * terms, [&](std::int64_t first, std::int64_t count) {
      for (std::int64_t at = first * step; at < (first + count) * step;) {
        const std::int64_t sequence = at / a.queries.longest;
        const std::int64_t n = std::min((first + count) * step, (sequence + 1) * a.queries.longest) - at;
        AttentionArgs part = a;
        part.q = a.q.row_range(at, n), part.out = a.out.row_range(at, n);
        part.k = a.k.row_range(sequence * a.keys.longest, a.keys.longest);
        part.v = a.v.row_range(sequence * a.keys.longest, a.keys.longest);
        part.queries = {1, n, n, nullptr}, part.keys = {1, a.keys.longest, a.keys.longest, nullptr};
        to_.attention(part);
        at += n;
      }
    });
  }

 private:
  explicit ParallelReference(std::unique_ptr<Backend> one) : ForwardingBackend(*one), one_(std::move(one)) {}

  static AttentionArgs heads(const AttentionArgs& a, int first, int count) {
    const std::int64_t column = std::int64_t{first} * a.head_dim, width = std::int64_t{count} * a.head_dim;
    AttentionArgs part = a;
    part.q = a.q.column_range(column, width), part.out = a.out.column_range(column, width);
    part.k = a.k.column_range(column, width), part.v = a.v.column_range(column, width);
    if (a.prefix_k) part.prefix_k = a.prefix_k.column_range(column, width);
    if (a.prefix_v) part.prefix_v = a.prefix_v.column_range(column, width);
    part.heads = count;
    return part;
  }

  /// Calls f(first, count) for parts of [0, n); `work`: operations in all, of which a part should have a millisecond's.
  void in_parallel(std::int64_t n, std::int64_t work, const std::function<void(std::int64_t, std::int64_t)>& f) {
    constexpr std::int64_t kLeast = std::int64_t{1} << 20;
    const std::int64_t parts = std::clamp<std::int64_t>(std::min(n, work / kLeast), 1, 4 * cores_);
    parallel_for(&pool_, cores_ - 1, static_cast<std::size_t>(parts), [&](std::size_t i) {
      const std::int64_t first = n * static_cast<std::int64_t>(i) / parts;
      f(first, n * static_cast<std::int64_t>(i + 1) / parts - first);
    });
  }

  const std::unique_ptr<Backend> one_;
  const int cores_ = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  ThreadPool pool_{cores_};
};

}  // namespace tandem::backend::test
