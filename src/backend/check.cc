// Shapes and types of every backend call. The model is the only caller, so a violation is a bug: Code::internal.
#include <concepts>

#include "backend/backend.h"
#include "base/strings.h"

namespace tandem::backend {
namespace {

void require(bool holds, const char* operation, const char* what) {
  if (!holds) throw Error(Code::internal, cat(operation, ": ", what));
}

/// `what` makes the message, only when it is wanted: these checks stand in every call of a forward pass.
template <std::invocable What>
void require(bool holds, const char* operation, const What& what) {
  if (!holds) throw Error(Code::internal, cat(operation, ": ", what()));
}

void require_shape(const char* operation, const char* name, ConstView v, std::int64_t rows, std::int64_t columns) {
  require(v && v.rows() == rows && v.columns() == columns, operation, [&] {
    return cat(name, " is ", v ? to_string(v.shape) : std::string("missing"), ", wanted ", rows, " x ", columns);
  });
}

void require_vector(const char* operation, const char* name, ConstView v, std::int64_t n, bool optional = false) {
  if (optional && !v) return;
  require(v && v.shape.elements() == n && v.dtype == DType::f32 && v.contiguous(), operation, [&] {
    return cat(name, " must be ", n, " float32 values, is ", v ? to_string(v.shape) : std::string("missing"));
  });
}

}  // namespace

void check(const PatchEmbedArgs& a) {
  constexpr const char* kOp = "patch_embed";
  require(a.weight != nullptr, kOp, "no weight");
  require(a.pixels && a.pixels.dtype == DType::u8 && a.pixels.shape.rank() == 4 && a.pixels.shape[3] == 3, kOp,
          "pixels must be uint8 [B, S, S, 3]");
  const auto side = a.pixels.shape[1];
  require(a.patch > 0 && a.pixels.shape[2] == side && side % a.patch == 0, kOp,
          "the side is not a multiple of the patch");
  const auto patches = (side / a.patch) * (side / a.patch);
  const auto tokens = patches + (a.class_embedding ? 1 : 0);
  const auto width = a.weight->outputs();
  require_vector(kOp, "class_embedding", a.class_embedding, width, true);
  require_shape(kOp, "position", a.position, tokens, width);
  require_shape(kOp, "out", a.out, a.pixels.shape[0] * tokens, width);
}

void check(const LayerNormArgs& a) {
  constexpr const char* kOp = "layer_norm";
  require(static_cast<bool>(a.x), kOp, "no input");
  require_shape(kOp, "out", a.out.view, a.x.rows(), a.x.columns());
  require_vector(kOp, "gamma", a.gamma, a.x.columns());
  require_vector(kOp, "beta", a.beta, a.x.columns());
}

void check(const LinearArgs& a) {
  constexpr const char* kOp = "linear";
  require(a.weight != nullptr, kOp, "no weight");
  require(a.x.view && a.x.view.columns() == a.weight->inputs(), kOp, [&] {
    return cat("x is ", to_string(a.x.view.shape), ", the weight takes ", a.weight->inputs(), " columns");
  });
  require_shape(kOp, "out", a.out.view, a.x.view.rows(), a.weight->outputs());
  require_vector(kOp, "bias", a.bias, a.weight->outputs(), true);
  if (a.residual) {
    require_shape(kOp, "residual", a.residual, a.x.view.rows(), a.weight->outputs());
    require(a.residual.dtype == a.out.view.dtype, kOp, "residual and out differ in type");
  }
}

void check(const NormLinearArgs& a) {
  constexpr const char* kOp = "norm_linear";
  require(a.weight != nullptr, kOp, "no weight");
  require(a.x && a.x.columns() == a.weight->inputs(), kOp, [&] {
    return cat("x is ", to_string(a.x.shape), ", the weight takes ", a.weight->inputs(), " columns");
  });
  require_vector(kOp, "gamma", a.gamma, a.x.columns());
  require_vector(kOp, "beta", a.beta, a.x.columns());
  require_vector(kOp, "bias", a.bias, a.weight->outputs(), true);
  require_shape(kOp, "normalized", a.normalized.view, a.x.rows(), a.x.columns());
  require_shape(kOp, "out", a.out.view, a.x.rows(), a.weight->outputs());
}

void check(const AttentionArgs& a) {
  constexpr const char* kOp = "attention";
  const std::int64_t width = static_cast<std::int64_t>(a.heads) * a.head_dim;
  require(a.heads > 0 && a.head_dim > 0, kOp, "no heads");
  require_shape(kOp, "q", a.q, a.queries.rows, width);
  require_shape(kOp, "k", a.k, a.keys.rows, width);
  require_shape(kOp, "v", a.v, a.keys.rows, width);
  require_shape(kOp, "out", a.out, a.queries.rows, width);
  require(a.queries.count == a.keys.count, kOp, "queries and keys differ in sequences");
  require(static_cast<bool>(a.prefix_k) == static_cast<bool>(a.prefix_v), kOp, "half a prefix");
  if (a.prefix_k) {
    require_shape(kOp, "prefix_k", a.prefix_k, a.prefix_v.rows(), width);
    require_shape(kOp, "prefix_v", a.prefix_v, a.prefix_k.rows(), width);
  }
  for (const Sequences* s : {&a.queries, &a.keys}) {
    require(s->offsets != nullptr || s->rows == s->count * s->longest, kOp, "uniform sequences do not add up");
  }
}

void check(const EmbedTokensArgs& a) {
  constexpr const char* kOp = "embed_tokens";
  require(a.ids != nullptr && a.positions != nullptr && a.table && a.position, kOp, "an input is missing");
  require(a.table.columns() == a.out.columns() && a.position.columns() == a.out.columns(), kOp, "widths differ");
}

void check(const SelectRowsArgs& a) {
  constexpr const char* kOp = "select_rows";
  require(a.x && (a.rows != nullptr || a.every > 0) && a.out && a.x.columns() == a.out.columns() &&
              a.x.dtype == a.out.dtype,
          kOp, "x and out differ");
}

void check(const ProjectArgs& a) {
  constexpr const char* kOp = "project";
  require(a.x && a.x.dtype == DType::f32 && a.out && a.out.dtype == DType::f32, kOp, "x and out must be float32");
  const auto inputs = a.weight != nullptr ? a.weight->inputs() : a.x.columns();
  require_shape(kOp, "x", a.x, a.out.rows(), inputs);
  require_shape(kOp, "out", a.out, a.x.rows(), a.weight != nullptr ? a.weight->outputs() : inputs);
}

void check(const NormProjectArgs& a) {
  constexpr const char* kOp = "norm_project";
  require(static_cast<bool>(a.x), kOp, "no input");
  require_vector(kOp, "gamma", a.gamma, a.x.columns());
  require_vector(kOp, "beta", a.beta, a.x.columns());
  require_shape(kOp, "normalized", a.normalized, a.x.rows(), a.x.columns());
  check(ProjectArgs{a.normalized, a.weight, a.normalize, a.out});
}

void check(const SimilarityArgs& a) {
  constexpr const char* kOp = "similarity";
  require(a.a && a.b && a.a.columns() == a.b.columns(), kOp, "a and b differ in columns");
  require_shape(kOp, "out", a.out, a.a.rows(), a.b.rows());
}

}  // namespace tandem::backend
