#include "engine/lane.h"

#include <algorithm>
#include <cmath>

#include "base/clock.h"
#include "base/parallel_for.h"
#include "base/strings.h"

namespace tandem::engine {
namespace {

/// Below this, copying pixels on one thread takes less time than waking others.
constexpr std::size_t kLargeCopy = std::size_t{4} << 20;
/// Threads that saturate the memory when they copy.
constexpr int kCopyHelpers = 7;
/// Passes after which a lane that ran out of memory takes larger ones again: others may have given theirs back.
constexpr std::uint64_t kPatience = 1000;

/// Where the caller wants an item's vector on the device; none: in an Embedding.
const DeviceVectors& destination(const Item& item) {
  const Request& request = item.job->request();
  return item.image ? request.image_vectors : request.text_vectors;
}

/// A vector as the caller gets it, or the reason why it is not one. `values` are not looked at where they stay on the
/// device.
Embedding checked(std::span<const float> values, bool normalize, const Item& item) {
  Embedding out;
  out.truncated = item.prepared.truncated;
  out.tokens = static_cast<int>(item.prepared.ids.size());
  out.width = item.prepared.given.width, out.height = item.prepared.given.height;
  if (destination(item).values != nullptr) return out;
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

Lane::Lane(std::unique_ptr<backend::Backend> backend, std::shared_ptr<const model::Model> model, ThreadPool* helpers)
    : backend_(std::move(backend)),
      model_(std::move(model)),
      helpers_(helpers),
      slots_(backend_->stream() != nullptr ? 2 : 1) {}

Lane::~Lane() {
  if (begun_ > 0) settle();
}

std::size_t Lane::arena_bytes(PassSize size) const {
  const model::Model& m = *model_;
  const auto& c = m.config;
  std::size_t bytes = 0;
  if (m.vision && size.images > 0) {
    bytes = model::plan_images(*backend_, m.precision, c.vision, c.embed_dim, size.images);
  }
  if (m.text && size.texts > 0) {
    const std::int64_t rows = size.texts * c.text.context_length;
    bytes = std::max(bytes, model::plan_texts(*backend_, m.precision, c.text, c.embed_dim, size.texts, rows));
  }
  return bytes;
}

std::size_t Lane::backend_bytes(PassSize size) const {
  const model::Model& m = *model_;
  const auto& c = m.config;
  const auto of = [&](const model::TowerConfig& tower, std::int64_t rows) {
    return model::backend_bytes(*backend_, m.precision, tower, rows);
  };
  return std::max(m.vision ? of(c.vision, size.images * c.vision.tokens()) : 0,
                  m.text ? of(c.text, size.texts * c.text.context_length) : 0);
}

std::size_t Lane::slot_bytes(std::int64_t images) const {
  // A processor reads a single picture where it is.
  if (!model_->vision || (slots_.size() == 1 && images == 1)) return 0;
  return slots_.size() * static_cast<std::size_t>(images) * picture_bytes();
}

std::size_t Lane::picture_bytes() const {
  const auto side = static_cast<std::size_t>(model_->config.vision.image_size);
  return side * side * 3;
}

void Lane::allocate(PassSize size) {
  arena_ = {};
  for (Slot& slot : slots_) slot = {};
  const auto& c = model_->config;
  const auto items = static_cast<std::size_t>(std::max(size.images, size.texts));
  const auto width = static_cast<std::size_t>(std::max({c.embed_dim, c.vision.width, c.text.width}));
  for (Slot& slot : slots_) {
    slot.pixels = backend_->allocate(slot_bytes(size.images) / slots_.size());
    slot.vectors = backend_->allocate_landing(items * width * sizeof(float));
  }
  arena_ = Arena(backend_->allocate(arena_bytes(size)));
  size_ = most_ = size;
}

void Lane::settle() noexcept {
  try {
    backend_->synchronize();
  } catch (const std::exception&) {  // the next call says it again
  }
}

std::size_t Lane::fitting(std::span<const Item* const> items) const {
  if (items.front()->image) {
    return std::min(items.size(), static_cast<std::size_t>(std::max<std::int64_t>(most_.images, 1)));
  }
  // Texts are packed, so rows count; a batch of the planned number of full-length texts always fits, and so do its
  // per-text tables, which were planned for as many texts.
  const auto most = static_cast<std::size_t>(most_.texts);
  const std::int64_t most_rows = size_.texts * model_->config.text.context_length;
  std::size_t n = 0;
  for (std::int64_t rows = 0; n < items.size() && n < most; ++n) {
    rows += static_cast<std::int64_t>(items[n]->prepared.ids.size());
    if (rows > most_rows) break;
  }
  return std::max<std::size_t>(n, 1);
}

std::size_t Lane::filling(std::span<const Item* const> items) const {
  const std::size_t n = fitting(items);
  const std::int64_t most = items.front()->image ? most_.images : most_.texts;
  return n < items.size() || static_cast<std::int64_t>(n) == most ? n : 0;
}

std::size_t Lane::shrink(bool images, std::size_t items) {
  std::int64_t& most = images ? most_.images : most_.texts;
  most = std::max<std::int64_t>(1, std::min(most, static_cast<std::int64_t>(items)) / 2);
  shrunk_at_ = passes_;
  return static_cast<std::size_t>(most);
}

ConstView Lane::pixels(std::span<Item> items, Slot& slot) {
  const auto count = static_cast<std::int64_t>(items.size()), side = std::int64_t{model_->config.vision.image_size};
  const auto bytes = static_cast<std::int64_t>(picture_bytes());
  const Shape shape{count, side, side, 3};
  // One behind the other in the device's memory, or a single one in a processor's: read where they are.
  const std::byte* first = items.front().prepared.device_pixels;
  bool in_place = first != nullptr;
  for (std::int64_t i = 0; in_place && i < count; ++i) {
    in_place = items[static_cast<std::size_t>(i)].prepared.device_pixels == first + i * bytes;
  }
  if (first == nullptr && count == 1 && slots_.size() == 1) {
    first = reinterpret_cast<const std::byte*>(items.front().prepared.pixels());
    in_place = true;
  }
  // A recorded pass reads its own slot.
  if (in_place && (slots_.size() == 1 || count > model::kReplayedImages)) return {first, DType::u8, shape};

  const ConstView slot_view(slot.pixels.data(), DType::u8, shape);
  const View rows(slot.pixels.data(), DType::u8, {count, bytes});
  if (in_place) {
    backend_->select_rows({ConstView(first, DType::u8, {count, bytes}), nullptr, rows, 1});
    return slot_view;
  }
  const int helpers = items.size() * picture_bytes() < kLargeCopy ? 0 : kCopyHelpers;
  parallel_for(helpers_, helpers, items.size(), [&](std::size_t i) {
    const Prepared& picture = items[i].prepared;
    if (picture.device_pixels != nullptr) return;
    backend_->upload_beside(picture.pixels(), rows.row_range(static_cast<std::int64_t>(i), 1));
  });
  backend_->join_uploads();
  for (std::int64_t i = 0; i < count; ++i) {
    const std::byte* there = items[static_cast<std::size_t>(i)].prepared.device_pixels;
    if (there == nullptr) continue;
    backend_->select_rows({ConstView(there, DType::u8, {1, bytes}), nullptr, rows.row_range(i, 1), 1});
  }
  return slot_view;
}

model::TowerOutput Lane::encode(std::span<Item> items, Slot& slot, const EmbedOptions& options) {
  model::Execution execution{*backend_, arena_, alone_, model_->precision};
  const bool project = options.feature == Feature::projected;
  const model::PassOptions pass{project, project && options.normalize, {}};
  const auto& c = model_->config;
  if (items.front().image) {
    const auto begin = Clock::now();
    const ConstView given = pixels(items, slot);
    slot.copying = seconds_since(begin);
    return model::encode_images(execution, c.vision, *model_->vision, c.embed_dim, given, pass);
  }
  ids_.clear();
  for (const Item& item : items) ids_.emplace_back(item.prepared.ids);
  model::pack_texts(c.text, ids_, true, packed_);
  if (slots_.size() > 1) model::pad_texts(c.text, size_.texts * c.text.context_length, packed_);
  return model::encode_texts(execution, c.text, *model_->text, c.embed_dim, packed_, pass);
}

bool Lane::leave_on_device(std::span<Item> items, ConstView vectors, bool normalize) {
  bool all = true;
  for (std::size_t i = 0, next = 0; i < items.size(); i = next) {
    const Item& item = items[i];
    const DeviceVectors& to = destination(item);
    // Items of one request that follow each other go together.
    for (next = i + 1; next < items.size(); ++next) {
      if (items[next].job != item.job || items[next].index != item.index + (next - i)) break;
    }
    if (to.values == nullptr) {
      all = false;
      continue;
    }
    const auto first = static_cast<std::int64_t>(i), count = static_cast<std::int64_t>(next - i);
    auto* out = reinterpret_cast<std::byte*>(to.values + item.index * static_cast<std::size_t>(to.width));
    backend_->project({vectors.row_range(first, count), nullptr, normalize, {out, DType::f32, {count, to.width}}});
  }
  return all;
}

void Lane::begin(std::span<Item> items) {
  if (begun_ == 0) next_ = 0;  // batches that come one by one share a slot, and so the recorded pass that reads it
  Slot& slot = slots_[next_];
  slot.begun = Clock::now();
  slot.copying = 0;
  for (Item& item : items) item.job->started(slot.begun);
  const EmbedOptions options = items.front().options();
  try {
    const model::TowerOutput output = encode(items, slot, options);
    const ConstView wanted = options.feature == Feature::projected ? output.projected : output.pooled;
    slot.normalize = options.normalize && options.feature == Feature::pooled;
    slot.width = leave_on_device(items, wanted, slot.normalize) ? 0 : static_cast<std::size_t>(wanted.columns());
    if (slot.width > 0) backend_->download_later(wanted, slot.vectors.data());
    slot.mark = backend_->mark();
  } catch (...) {
    settle();  // what was issued of it still reads the slot
    throw;
  }
  next_ = (next_ + 1) % slots_.size();
  ++begun_;
}

std::vector<Embedding> Lane::finish(std::span<Item> items, bool asleep) {
  const Slot& slot = slots_[(next_ + slots_.size() - begun_) % slots_.size()];
  --begun_;
  asleep ? backend_->wait_asleep(slot.mark) : backend_->wait_for(slot.mark);
  ++passes_;
  if (most_.images + most_.texts < size_.images + size_.texts && passes_ - shrunk_at_ >= kPatience) {
    most_.images = std::min(2 * most_.images, size_.images), most_.texts = std::min(2 * most_.texts, size_.texts);
    shrunk_at_ = passes_;
  }
  const auto now = Clock::now();
  const double seconds = std::chrono::duration<double>(now - std::max(slot.begun, finished_)).count();
  finished_ = now;
  copy_seconds_ = std::min(slot.copying, seconds), compute_seconds_ = seconds - copy_seconds_;
  const auto* vectors = reinterpret_cast<const float*>(slot.vectors.data());
  std::vector<Embedding> out;
  out.reserve(items.size());
  for (std::size_t i = 0; i < items.size(); ++i) {
    out.push_back(checked({vectors + i * slot.width, slot.width}, slot.normalize, items[i]));
    items[i].job->computed(seconds / static_cast<double>(items.size()));
  }
  return out;
}

}  // namespace tandem::engine
