#include "engine/replica.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/strings.h"

namespace tandem::engine {
namespace {

/// Activations beyond a processor's outer cache only cost memory: above this, a larger batch is not faster.
constexpr std::size_t kHostArenaTarget = std::size_t{48} << 20;
constexpr int kLargestAutomaticBatch = 32;

/// A vector as the caller gets it, or the reason why it is not one.
Embedding checked(std::span<const float> values, bool normalize, const Item& item) {
  Embedding out;
  out.truncated = item.prepared.truncated;
  out.tokens = static_cast<int>(item.prepared.ids.size());
  double squares = 0;
  for (const float v : values) squares += static_cast<double>(v) * v;
  if (!std::isfinite(squares) || squares == 0) {
    out.error = ItemError{Code::internal, cat("the model gave a vector that is ", squares == 0 ? "zero" : "not finite",
                                              ": check the checkpoint, or use --precision fp32")};
    return out;
  }
  out.values.assign(values.begin(), values.end());
  if (normalize) {
    const double scale = 1 / std::sqrt(squares);
    for (float& v : out.values) v = static_cast<float>(v * scale);
  }
  return out;
}

}  // namespace

Replica::Replica(std::unique_ptr<backend::Backend> backend, std::shared_ptr<const model::Model> model, int max_batch,
                 std::size_t most, MemoryBudget& budget)
    : backend_(std::move(backend)), model_(std::move(model)) {
  plan(max_batch, most, budget);
}

void Replica::plan(int max_batch, std::size_t most, MemoryBudget& budget) {
  const model::Model& m = *model_;
  const auto& c = m.config;
  const auto images = [&](std::int64_t n) {
    return m.vision ? model::plan_images(*backend_, m.precision, c.vision, c.embed_dim, n) : 0;
  };
  const auto texts = [&](std::int64_t n) {
    return m.text ? model::plan_texts(*backend_, m.precision, c.text, c.embed_dim, n, n * c.text.context_length) : 0;
  };
  max_batch_ = max_batch > 0 ? max_batch : kLargestAutomaticBatch;
  if (max_batch == 0) {
    while (max_batch_ > 1 && images(max_batch_) > kHostArenaTarget) max_batch_ /= 2;
  }
  while (max_batch_ > 1 && images(max_batch_) > most) max_batch_ /= 2;
  std::int64_t text_batch = std::max(max_batch_, max_batch == 0 ? kLargestAutomaticBatch : 1);
  while (text_batch > 1 && (texts(text_batch) > most || (max_batch == 0 && texts(text_batch) > kHostArenaTarget))) {
    text_batch /= 2;
  }
  const std::size_t bytes = std::max(images(max_batch_), texts(text_batch));
  arena_reserved_ = budget.reserve(bytes, cat("activations for a batch of ", max_batch_, " on ", c.name));
  max_text_rows_ = text_batch * c.text.context_length;
  arena_ = Arena(backend_->allocate(bytes));
}

std::size_t Replica::fitting(std::span<const Item* const> items) const {
  if (items.front()->image) return std::min(items.size(), static_cast<std::size_t>(max_batch_));
  // Texts are packed, so rows count; a batch of the planned number of full-length texts always fits, and so do its
  // per-text tables, which were planned for as many texts.
  const auto most = static_cast<std::size_t>(max_text_rows_ / model_->config.text.context_length);
  std::size_t n = 0;
  for (std::int64_t rows = 0; n < items.size() && n < most; ++n) {
    rows += static_cast<std::int64_t>(items[n]->prepared.ids.size());
    if (rows > max_text_rows_) break;
  }
  return std::max<std::size_t>(n, 1);
}

model::TowerOutput Replica::encode(std::span<Item> items, const EmbedOptions& options) {
  model::Execution execution{*backend_, arena_, alone_, model_->precision};
  const bool project = options.feature == Feature::projected;
  const model::PassOptions pass{project, project && options.normalize, {}};
  const auto& c = model_->config;
  if (!items.front().image) {
    ids_.clear();
    for (const Item& item : items) ids_.emplace_back(item.prepared.ids);
    model::pack_texts(c.text, ids_, true, packed_);
    return model::encode_texts(execution, c.text, *model_->text, c.embed_dim, packed_, pass);
  }
  const auto side = static_cast<std::int64_t>(c.vision.image_size);
  const auto bytes = static_cast<std::size_t>(side * side * 3);
  const std::uint8_t* first = items.front().prepared.pixels();
  if (items.size() > 1) {
    pixels_.resize(std::max(pixels_.size(), items.size() * bytes));
    for (std::size_t i = 0; i < items.size(); ++i) {
      std::memcpy(pixels_.data() + i * bytes, items[i].prepared.pixels(), bytes);
    }
    first = pixels_.data();
  }
  const ConstView pixels(reinterpret_cast<const std::byte*>(first), DType::u8,
                         {static_cast<std::int64_t>(items.size()), side, side, 3});
  return model::encode_images(execution, c.vision, *model_->vision, c.embed_dim, pixels, pass);
}

std::vector<Embedding> Replica::run(std::span<Item> items) {
  const EmbedOptions options = items.front().options();
  const auto begin = Clock::now();
  for (Item& item : items) item.job->started(begin);
  const model::TowerOutput output = encode(items, options);
  const ConstView wanted = options.feature == Feature::projected ? output.projected : output.pooled;
  vectors_.resize(static_cast<std::size_t>(wanted.shape.elements()));
  backend_->download(wanted, vectors_.data());
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  const auto width = static_cast<std::size_t>(wanted.columns());
  const bool normalize = options.normalize && options.feature == Feature::pooled;
  std::vector<Embedding> out;
  out.reserve(items.size());
  for (std::size_t i = 0; i < items.size(); ++i) {
    out.push_back(checked(std::span(vectors_).subspan(i * width, width), normalize, items[i]));
    items[i].job->computed(seconds / static_cast<double>(items.size()));
  }
  return out;
}

}  // namespace tandem::engine
