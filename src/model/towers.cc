#include "model/towers.h"

#include <algorithm>
#include <array>
#include <functional>

#include "base/strings.h"

namespace tandem::model {
namespace {

TowerState take_vision(Arena& arena, const backend::Backend& backend, Precision precision, const VisionConfig& c,
                       int embed_dim, std::int64_t batch) {
  return take_state(arena, c, backend.types(precision), batch * c.tokens(), batch, embed_dim,
                    backend.patch_embed_scratch(batch, c.image_size, c.patch, c.width, precision));
}

struct TextState {
  View ids, positions, offsets, pooled;  // i32
  TowerState tower;
};

TextState take_text(Arena& arena, const backend::Backend& backend, Precision precision, const TextConfig& c,
                    int embed_dim, std::int64_t count, std::int64_t rows) {
  TextState s;
  s.ids = arena.take(DType::i32, {rows});
  s.positions = arena.take(DType::i32, {rows});
  s.offsets = arena.take(DType::i32, {count + 1});
  s.pooled = arena.take(DType::i32, {count});
  s.tower = take_state(arena, c, backend.types(precision), rows, count, embed_dim);
  return s;
}

/// pooled = ln(selected); projected = W pooled, of unit length when asked.
void finish(Execution& ex, const TowerConfig& c, const Norm& norm, const backend::PreparedWeight* projection,
            const TowerState& s, const PassOptions& options) {
  if (options.project) {
    return ex.backend.norm_project({s.selected, norm.gamma.view(), norm.beta.view(), c.norm_eps, s.pooled, projection,
                                    options.normalize, s.projected});
  }
  ex.backend.layer_norm({s.selected, norm.gamma.view(), norm.beta.view(), c.norm_eps, {s.pooled, {}}});
}

TowerOutput output(const TowerState& s, const PassOptions& options) {
  return {s.pooled, options.project ? ConstView(s.projected) : ConstView()};
}

std::int64_t address(const void* p) {
  return static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(p));
}

struct UnderWay {
  explicit UnderWay(backend::Backend& b) : backend(b) { backend.pass_begins(); }
  ~UnderWay() { backend.pass_ends(); }
  UnderWay(const UnderWay&) = delete;
  UnderWay& operator=(const UnderWay&) = delete;
  backend::Backend& backend;
};

/// Issues a pass; where it may come again, so that the backend can record it. `what` is all that its operations depend
/// on besides the weights and the options.
void issue(Execution& ex, const void* weights, std::array<std::int64_t, 6> what, const PassOptions& options,
           bool may_come_again, const std::function<void()>& pass) {
  const UnderWay under_way(ex.backend);
  if (!may_come_again || options.observer) return pass();
  backend::PassKey key{address(weights), (options.project ? 2 : 0) + (options.normalize ? 1 : 0)};
  std::ranges::copy(what, key.begin() + 2);
  ex.backend.replay(key, pass);
}

}  // namespace

std::size_t pooled_position(const TextConfig& config, std::span<const std::int32_t> ids) {
  if (config.pool_rule == text::PoolRule::largest_id) {
    return static_cast<std::size_t>(std::max_element(ids.begin(), ids.end()) - ids.begin());
  }
  const auto found = std::find(ids.begin(), ids.end(), config.end_id);
  return found == ids.end() ? 0 : static_cast<std::size_t>(found - ids.begin());
}

void pack_texts(const TextConfig& config, std::span<const std::span<const std::int32_t>> texts, bool share_prefix,
                PackedTexts& out) {
  out.ids.clear(), out.positions.clear(), out.offsets.clear(), out.pooled.clear();
  out.longest = 0;
  // Every text keeps at least the row that pooling reads for itself.
  std::size_t prefix = share_prefix && texts.size() > 1 ? texts[0].size() : 0;
  for (const auto& ids : texts) {
    prefix = std::min(prefix, pooled_position(config, ids));
    prefix = static_cast<std::size_t>(
        std::mismatch(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(prefix), texts[0].begin()).first -
        ids.begin());
  }
  const auto append = [&](std::span<const std::int32_t> ids, std::size_t first, std::size_t last) {
    for (std::size_t i = first; i < last; ++i) {
      out.ids.push_back(ids[i]);
      out.positions.push_back(static_cast<std::int32_t>(i));
    }
  };
  out.prefix = static_cast<std::int32_t>(prefix);
  if (prefix > 0) append(texts[0], 0, prefix);
  out.offsets.push_back(0);
  for (const auto& ids : texts) {
    const std::size_t end = pooled_position(config, ids) + 1;
    append(ids, prefix, end);
    out.pooled.push_back(static_cast<std::int32_t>(out.ids.size()) - 1);
    out.offsets.push_back(static_cast<std::int32_t>(out.ids.size() - prefix));
    out.longest = std::max(out.longest, static_cast<std::int32_t>(end - prefix));
  }
}

void pad_texts(const TextConfig& config, std::int64_t most_rows, PackedTexts& texts) {
  if (texts.count() > kReplayedTexts) return;
  constexpr std::int64_t kStep = 16;
  const auto up = [](std::int64_t n) { return (n + kStep - 1) / kStep * kStep; };
  const std::int64_t rows = std::min(up(texts.rows()), std::max(most_rows, texts.rows()));
  texts.ids.resize(static_cast<std::size_t>(rows)), texts.positions.resize(static_cast<std::size_t>(rows));
  texts.longest = static_cast<std::int32_t>(std::min<std::int64_t>(up(texts.longest), config.context_length));
}

TowerOutput encode_images(Execution& ex, const VisionConfig& config, const VisionWeights& weights, int embed_dim,
                          ConstView pixels, const PassOptions& options) {
  const std::int64_t batch = pixels.shape[0], tokens = config.tokens();
  Arena::Scope scope(ex.arena);
  TowerState s = take_vision(ex.arena, ex.backend, ex.precision, config, embed_dim, batch);
  const auto pass = [&] {
    backend::PatchEmbedArgs embed;  // x = patches, class token, positions   [B T, D]
    embed.pixels = pixels, embed.weight = weights.patch_embed.get(), embed.patch = config.patch;
    embed.class_embedding = weights.class_embedding.view(), embed.position = weights.position.view();
    embed.scratch = {s.wide.data, DType::u8, {static_cast<std::int64_t>(s.wide.bytes())}};  // free until the blocks
    embed.out = s.x;
    ex.backend.patch_embed(embed);
    ex.backend.layer_norm(
        {s.x, weights.ln_pre.gamma.view(), weights.ln_pre.beta.view(), config.norm_eps, {s.x, {}}});  // x = ln_pre(x)
    if (options.observer) options.observer(-1, s.x);

    Layout layout;
    layout.own = {batch, tokens, batch * tokens, nullptr};
    run_blocks(ex, config, *weights.blocks, layout, false, s, options.observer);
    finish(ex, config, weights.ln_post, weights.projection.get(), s, options);
  };
  issue(ex, &weights, {batch, address(pixels.data), address(s.x.data)}, options, batch <= kReplayedImages, pass);
  return output(s, options);
}

TowerOutput encode_texts(Execution& ex, const TextConfig& config, const TextWeights& weights, int embed_dim,
                         const PackedTexts& texts, const PassOptions& options) {
  Arena::Scope scope(ex.arena);
  TextState s = take_text(ex.arena, ex.backend, ex.precision, config, embed_dim, texts.count(), texts.rows());
  ex.backend.upload(texts.ids.data(), s.ids);
  ex.backend.upload(texts.positions.data(), s.positions);
  ex.backend.upload(texts.offsets.data(), s.offsets);
  ex.backend.upload(texts.pooled.data(), s.pooled);
  const auto pass = [&] {
    ex.backend.embed_tokens({s.ids.as<std::int32_t>(), s.positions.as<std::int32_t>(), weights.token.view(),
                             weights.position.view(), s.tower.x});  // x = tokens + positions   [M, D]
    if (options.observer) options.observer(-1, s.tower.x);

    Layout layout;
    layout.prefix = texts.prefix;
    layout.own = {texts.count(), texts.longest, texts.rows() - texts.prefix, s.offsets.as<std::int32_t>()};
    layout.pooled = s.pooled.as<std::int32_t>();
    run_blocks(ex, config, *weights.blocks, layout, config.mask == TextMask::causal, s.tower, options.observer);
    finish(ex, config, weights.ln_final, weights.projection.get(), s.tower, options);
  };
  issue(ex, &weights, {texts.count(), texts.rows(), texts.longest, texts.prefix, address(s.tower.x.data)}, options,
        texts.count() <= kReplayedTexts, pass);
  return output(s.tower, options);
}

std::size_t plan_images(const backend::Backend& backend, Precision precision, const VisionConfig& config, int embed_dim,
                        std::int64_t batch) {
  Arena measure;
  take_vision(measure, backend, precision, config, embed_dim, batch);
  return measure.peak();
}

std::size_t plan_texts(const backend::Backend& backend, Precision precision, const TextConfig& config, int embed_dim,
                       std::int64_t count, std::int64_t rows) {
  Arena measure;
  take_text(measure, backend, precision, config, embed_dim, count, rows);
  return measure.peak();
}

}  // namespace tandem::model
