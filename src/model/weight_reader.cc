// Names of the two layouts after transformers' convert_clip_original_pytorch_to_hf.py and open_clip's transformer.py.
#include <algorithm>
#include <cstring>
#include <set>

#include "base/strings.h"
#include "model/weights.h"
#include "tandem/error.h"

namespace tandem::model {
namespace {

struct Rename {
  std::string_view canonical, stored;
};
/// Longest first where one begins another. A name that ends in '.' stands for what follows it, too.
constexpr Rename kHuggingFace[] = {
    {"vision.patch_embed.", "vision_model.embeddings.patch_embedding."},
    {"vision.class_embedding", "vision_model.embeddings.class_embedding"},
    {"vision.position_embedding", "vision_model.embeddings.position_embedding.weight"},
    {"vision.ln_pre.", "vision_model.pre_layrnorm."},  // so spelt in every checkpoint
    {"vision.ln_post.", "vision_model.post_layernorm."},
    {"vision.projection", "visual_projection.weight"},
    {"vision.blocks.", "vision_model.encoder.layers."},
    {"text.token_embedding", "text_model.embeddings.token_embedding.weight"},
    {"text.position_embedding", "text_model.embeddings.position_embedding.weight"},
    {"text.ln_final.", "text_model.final_layer_norm."},
    {"text.projection", "text_projection.weight"},
    {"text.blocks.", "text_model.encoder.layers."},
    {"logit_scale", "logit_scale"},
};
constexpr Rename kHuggingFaceBlock[] = {{"ln_1.", "layer_norm1."},
                                        {"ln_2.", "layer_norm2."},
                                        {"attn.out.", "self_attn.out_proj."},
                                        {"mlp.fc1.", "mlp.fc1."},
                                        {"mlp.fc2.", "mlp.fc2."}};
/// The text tower's names stand after "text." in a CustomTextCLIP: '@' is replaced by that or by nothing.
constexpr Rename kOpenClip[] = {
    {"vision.patch_embed.", "visual.conv1."},
    {"vision.class_embedding", "visual.class_embedding"},
    {"vision.position_embedding", "visual.positional_embedding"},
    {"vision.ln_pre.", "visual.ln_pre."},
    {"vision.ln_post.", "visual.ln_post."},
    {"vision.projection", "visual.proj"},
    {"vision.blocks.", "visual.transformer.resblocks."},
    {"text.token_embedding", "@token_embedding.weight"},
    {"text.position_embedding", "@positional_embedding"},
    {"text.ln_final.", "@ln_final."},
    {"text.projection", "@text_projection"},
    {"text.blocks.", "@transformer.resblocks."},
    {"logit_scale", "logit_scale"},
};
constexpr Rename kOpenClipBlock[] = {{"ln_1.", "ln_1."},
                                     {"ln_2.", "ln_2."},
                                     {"attn.qkv.", "attn.in_proj_"},
                                     {"attn.out.", "attn.out_proj."},
                                     {"mlp.fc1.", "mlp.c_fc."},
                                     {"mlp.fc2.", "mlp.c_proj."}};

template <class List>
std::string rename(const List& list, std::string_view name) {
  for (const Rename& r : list) {
    if (r.canonical.ends_with('.') ? name.starts_with(r.canonical) : name == r.canonical) {
      return std::string(r.stored) + std::string(name.substr(r.canonical.size()));
    }
  }
  throw Error(Code::internal, cat("no checkpoint name for ", name));
}

/// "vision.blocks.5.attn.qkv.weight" -> "vision.blocks.5." and "attn.qkv.weight"; no block: all and "".
std::pair<std::string_view, std::string_view> split_block(std::string_view name) {
  constexpr std::string_view kBlocks = ".blocks.";
  const auto at = name.find(kBlocks);
  if (at == std::string_view::npos) return {name, {}};
  const auto end = name.find('.', at + kBlocks.size()) + 1;
  return {name.substr(0, end), name.substr(end)};
}

constexpr std::string_view kHuggingFaceProbe = "vision_model.embeddings.class_embedding";
constexpr std::string_view kOpenClipProbe = "visual.class_embedding";
constexpr std::string_view kCanonicalProbe = "vision.class_embedding";

/// What stands before `probe` in the names that end with it.
std::vector<std::string> prefixes(const std::vector<std::string>& names, std::string_view probe) {
  std::vector<std::string> out;
  for (const std::string& name : names) {
    if (!name.ends_with(probe)) continue;
    const std::string prefix = name.substr(0, name.size() - probe.size());
    if (prefix.empty() || prefix.ends_with('.')) out.push_back(prefix);
  }
  return out;
}

bool is_float(DType t) {
  return t == DType::f32 || t == DType::f16 || t == DType::bf16;
}

/// The first element that is NaN or infinite, or -1. Looks at bits, so that no compiler option can optimise it away.
template <class T>
std::int64_t first_not_finite(const T* data, std::int64_t count, T exponent) {
  T worst = 0;  // 1 once any exponent is all ones: a loop without branches, which compilers vectorise
  for (std::int64_t i = 0; i < count; ++i) worst |= static_cast<T>((data[i] & exponent) == exponent);
  if (worst == 0) return -1;
  return std::find_if(data, data + count, [&](T v) { return (v & exponent) == exponent; }) - data;
}

void check_finite(ConstView view, const std::string& name) {
  std::int64_t at = -1;
  const std::int64_t n = view.shape.elements();
  if (view.dtype == DType::f32) at = first_not_finite<std::uint32_t>(view.as<std::uint32_t>(), n, 0x7f800000u);
  if (view.dtype == DType::f16) at = first_not_finite<std::uint16_t>(view.as<std::uint16_t>(), n, 0x7c00u);
  if (view.dtype == DType::bf16) at = first_not_finite<std::uint16_t>(view.as<std::uint16_t>(), n, 0x7f80u);
  if (at >= 0) {
    throw Error(Code::bad_data, cat("tensor ", name, " has a NaN or infinite value at element ", at, " of ", n,
                                    "; expected finite weights: the checkpoint is damaged"));
  }
}

template <class T>
void transpose(const T* from, std::int64_t rows, std::int64_t columns, T* to) {
  constexpr std::int64_t kTile = 32;  // both sides of a tile stay in the first-level cache
  for (std::int64_t r0 = 0; r0 < rows; r0 += kTile) {
    for (std::int64_t c0 = 0; c0 < columns; c0 += kTile) {
      for (std::int64_t r = r0; r < std::min(rows, r0 + kTile); ++r) {
        for (std::int64_t c = c0; c < std::min(columns, c0 + kTile); ++c) to[c * rows + r] = from[r * columns + c];
      }
    }
  }
}

}  // namespace

WeightReader::WeightReader(const Config& config, WeightSource& source) : config_(config), source_(source) {
  detect();
  check_nothing_left();
}

void WeightReader::detect() {
  const std::vector<std::string> names = source_.names();
  const std::pair<std::string_view, Names> probes[] = {
      {kHuggingFaceProbe, Names::huggingface}, {kOpenClipProbe, Names::openclip}, {kCanonicalProbe, Names::canonical}};
  // Without any probe the error should name what this layout is missing.
  names_ = config_.layout == "openclip" ? Names::openclip : Names::huggingface;
  for (const auto& [probe, layout] : probes) {
    const std::vector<std::string> found = prefixes(names, probe);
    if (found.empty()) continue;
    names_ = layout;
    if (std::ranges::find(found, "") != found.end()) {
      prefix_.clear();
    } else if (found.size() > 1) {
      throw Error(Code::bad_data,
                  cat("the checkpoint holds several models: under \"", found[0], "\" and \"", found[1], "\""));
    } else {
      prefix_ = found[0];
    }
    break;
  }
  if (names_ == Names::openclip && source_.find(prefix_ + "text.token_embedding.weight")) {
    names_ = Names::openclip_custom_text;
  }
}

WeightReader::Stored WeightReader::stored(const std::string& canonical) const {
  if (names_ == Names::canonical) return {{prefix_ + canonical}, false};
  const auto [tower, rest] = split_block(canonical);
  if (names_ == Names::huggingface) {
    const std::string base = prefix_ + rename(kHuggingFace, tower);
    constexpr std::string_view kQkv = "attn.qkv.";
    if (!rest.starts_with(kQkv)) return {{rest.empty() ? base : base + rename(kHuggingFaceBlock, rest)}, false};
    const std::string kind(rest.substr(kQkv.size()));
    return {{base + "self_attn.q_proj." + kind, base + "self_attn.k_proj." + kind, base + "self_attn.v_proj." + kind},
            false};
  }
  std::string base = rename(kOpenClip, tower);
  if (base.starts_with('@')) base.replace(0, 1, names_ == Names::openclip_custom_text ? "text." : "");
  base = prefix_ + base;
  return {{rest.empty() ? base : base + rename(kOpenClipBlock, rest)},
          canonical == "vision.projection" || canonical == "text.projection"};
}

void WeightReader::check_nothing_left() const {
  if (names_ == Names::canonical) return;
  std::set<std::string, std::less<>> known;
  for (const WeightSpec& spec : weight_table(config_)) {
    for (std::string& part : stored(spec.name).parts) known.insert(std::move(part));
  }
  // Buffers and sizes that old checkpoints carry along.
  constexpr std::string_view kHarmless[] = {"attn_mask", "text.attn_mask", "input_resolution", "context_length",
                                            "vocab_size"};
  for (const std::string& name : source_.names()) {
    if (!name.starts_with(prefix_) || known.contains(name) || name.ends_with("position_ids")) continue;
    const std::string_view own = std::string_view(name).substr(prefix_.size());
    // Other heads beside the towers are none of CLIP's business; OpenCLIP's own loader refuses them all.
    if (names_ == Names::huggingface && !own.starts_with("vision_model.") && !own.starts_with("text_model.")) continue;
    if (std::ranges::find(kHarmless, own) != std::end(kHarmless)) continue;
    throw Error(Code::bad_data, cat("tensor ", name, " has no place in the model that the configuration describes (",
                                    config_.vision.layers, " vision and ", config_.text.layers,
                                    " text blocks): expected no such tensor"));
  }
}

bool WeightReader::has(const WeightSpec& spec) const {
  return std::ranges::all_of(stored(spec.name).parts,
                             [&](const std::string& n) { return source_.find(n).has_value(); });
}

void WeightReader::release(const WeightSpec& spec) {
  for (const std::string& name : stored(spec.name).parts) source_.release(name);
}

/// Of every part of a stored weight.
Shape WeightReader::stored_shape(const WeightSpec& spec, const Stored& where) const {
  const auto parts = static_cast<std::int64_t>(where.parts.size());
  if (where.transposed) return {spec.shape[1], spec.shape[0]};
  if (parts == 1) return spec.shape;
  return spec.shape.rank() == 1 ? Shape{spec.shape[0] / parts} : Shape{spec.shape[0] / parts, spec.shape[1]};
}

void WeightReader::check(const WeightSpec& spec) const {
  const Stored where = stored(spec.name);
  const Shape expected = stored_shape(spec, where);
  for (const std::string& name : where.parts) {
    const auto info = source_.find(name);
    if (!info) {
      throw Error(Code::bad_data, cat("tensor ", name, " is missing from the checkpoint; expected ",
                                      to_string(expected), " (", spec.name, ")"));
    }
    if (!is_float(info->dtype)) {
      throw Error(Code::unsupported,
                  cat("tensor ", name, " is stored as ", to_string(info->dtype), "; expected F32, F16 or BF16"));
    }
    const bool one = expected.elements() == 1 && info->shape.elements() == 1;  // a scalar may have no dimensions
    if (info->shape != expected && !one) {
      throw Error(Code::bad_data, cat("tensor ", name, " has the shape ", to_string(info->shape), "; expected ",
                                      to_string(expected), " from the configuration (", spec.name, ")"));
    }
  }
}

WeightReader::Loaded WeightReader::read(const WeightSpec& spec) {
  check(spec);
  const Stored where = stored(spec.name);
  const auto parts = where.parts.size();
  const Shape expected = stored_shape(spec, where);
  std::vector<ConstView> views;
  for (const std::string& name : where.parts) {
    views.push_back(source_.get(name));
    check_finite(views.back(), name);
  }

  Loaded out;
  if (parts == 1 && !where.transposed) {
    out.view = {views[0].data, views[0].dtype, spec.shape};
    return out;
  }
  if (where.transposed) {
    out.owned = host_tensor(views[0].dtype, spec.shape);
    if (size_of(views[0].dtype) == 4) {
      transpose(views[0].as<std::uint32_t>(), expected[0], expected[1], out.owned.view().as<std::uint32_t>());
    } else {
      transpose(views[0].as<std::uint16_t>(), expected[0], expected[1], out.owned.view().as<std::uint16_t>());
    }
  } else {
    const bool same = std::ranges::all_of(views, [&](const ConstView& v) { return v.dtype == views[0].dtype; });
    out.owned = host_tensor(same ? views[0].dtype : DType::f32, spec.shape);
    std::byte* to = out.owned.view().data;
    for (const ConstView& part : views) {
      const View slice(to, out.owned.dtype(), part.shape);
      convert(part, slice);
      to += slice.bytes();
    }
  }
  out.view = out.owned.view();
  return out;
}

}  // namespace tandem::model
