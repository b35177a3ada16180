#include "engine/replica.h"

#include <algorithm>
#include <cmath>

#include "base/parallel_for.h"
#include "base/strings.h"

namespace tandem::engine {
namespace {

/// Activations beyond a processor's outer cache only cost memory: above this, a larger batch is not faster.
constexpr std::size_t kHostArenaTarget = std::size_t{48} << 20;
constexpr int kLargestAutomaticBatch = 32;
/// The same for a GPU, where memory is the limit: more images than this do not make it faster.
constexpr int kLargestDeviceBatch = 256;
/// Below this, copying pixels on one thread takes less time than waking others.
constexpr std::size_t kLargeCopy = std::size_t{4} << 20;
/// Threads that saturate the memory when they copy.
constexpr int kCopyHelpers = 7;

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

Replica::Replica(std::unique_ptr<backend::Backend> backend, std::shared_ptr<const model::Model> model,
                 ReplicaLimits limits, MemoryBudget& budget)
    : backend_(std::move(backend)),
      model_(std::move(model)),
      helpers_(limits.helpers),
      slots_(backend_->stream() != nullptr ? 2 : 1) {
  plan(limits.max_batch, limits.most, budget);
}

Replica::~Replica() {
  if (begun_ > 0) settle();
}

void Replica::plan(int max_batch, std::size_t most, MemoryBudget& budget) {
  const model::Model& m = *model_;
  const auto& c = m.config;
  const bool chosen = max_batch == 0, gpu = backend_->memory().total > 0;
  const int largest = gpu ? kLargestDeviceBatch : kLargestAutomaticBatch;
  const auto images = [&](std::int64_t n) {
    return m.vision ? model::plan_images(*backend_, m.precision, c.vision, c.embed_dim, n) : 0;
  };
  const auto texts = [&](std::int64_t n) {
    return m.text ? model::plan_texts(*backend_, m.precision, c.text, c.embed_dim, n, n * c.text.context_length) : 0;
  };
  const auto too_large = [&](std::size_t arena) {
    return arena + slot_bytes(max_batch_) > most || (chosen && !gpu && arena > kHostArenaTarget);
  };
  max_batch_ = chosen ? largest : max_batch;
  while (max_batch_ > 1 && too_large(images(max_batch_))) max_batch_ /= 2;
  std::int64_t text_batch = std::max(max_batch_, chosen ? largest : 1);
  while (text_batch > 1 && too_large(texts(text_batch))) text_batch /= 2;
  for (;;) {
    const std::size_t arena = std::max(images(max_batch_), texts(text_batch));
    arena_reserved_ =
        budget.reserve(arena + slot_bytes(max_batch_), cat("activations for a batch of ", max_batch_, " on ", c.name));
    try {
      allocate(arena, text_batch);
      break;
    } catch (const Error& error) {
      // Others use the device as well: what was free a moment ago may not be.
      if (error.code() != Code::out_of_memory || (max_batch_ == 1 && text_batch == 1)) throw;
    }
    arena_reserved_ = {};
    max_batch_ = std::max(1, max_batch_ / 2), text_batch = std::max<std::int64_t>(1, text_batch / 2);
  }
  max_text_rows_ = text_batch * c.text.context_length;
}

std::size_t Replica::slot_bytes(std::int64_t batch) const {
  // A processor reads a single picture where it is.
  if (!model_->vision || (slots_.size() == 1 && batch == 1)) return 0;
  return slots_.size() * static_cast<std::size_t>(batch) * picture_bytes();
}

std::size_t Replica::picture_bytes() const {
  const auto side = static_cast<std::size_t>(model_->config.vision.image_size);
  return side * side * 3;
}

void Replica::allocate(std::size_t arena, std::int64_t text_batch) {
  arena_ = {};
  for (Slot& slot : slots_) slot = {};
  const auto& c = model_->config;
  const auto items = static_cast<std::size_t>(std::max<std::int64_t>(max_batch_, text_batch));
  const auto width = static_cast<std::size_t>(std::max({c.embed_dim, c.vision.width, c.text.width}));
  for (Slot& slot : slots_) {
    slot.pixels = backend_->allocate(slot_bytes(max_batch_) / slots_.size());
    slot.vectors = backend_->allocate_landing(items * width * sizeof(float));
  }
  arena_ = Arena(backend_->allocate(arena));
}

void Replica::settle() noexcept {
  try {
    backend_->synchronize();
  } catch (const std::exception&) {  // the next call says it again
  }
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

std::size_t Replica::filling(std::span<const Item* const> items) const {
  const std::size_t n = fitting(items);
  const auto most = items.front()->image ? static_cast<std::int64_t>(max_batch_)
                                         : max_text_rows_ / model_->config.text.context_length;
  return n < items.size() || static_cast<std::int64_t>(n) == most ? n : 0;
}

ConstView Replica::pixels(std::span<Item> items, Slot& slot) {
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

model::TowerOutput Replica::encode(std::span<Item> items, Slot& slot, const EmbedOptions& options) {
  model::Execution execution{*backend_, arena_, alone_, model_->precision};
  const bool project = options.feature == Feature::projected;
  const model::PassOptions pass{project, project && options.normalize, {}};
  const auto& c = model_->config;
  if (items.front().image) {
    return model::encode_images(execution, c.vision, *model_->vision, c.embed_dim, pixels(items, slot), pass);
  }
  ids_.clear();
  for (const Item& item : items) ids_.emplace_back(item.prepared.ids);
  model::pack_texts(c.text, ids_, true, packed_);
  if (slots_.size() > 1) model::pad_texts(c.text, max_text_rows_, packed_);
  return model::encode_texts(execution, c.text, *model_->text, c.embed_dim, packed_, pass);
}

bool Replica::leave_on_device(std::span<Item> items, ConstView vectors, bool normalize) {
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

void Replica::begin(std::span<Item> items) {
  if (begun_ == 0) next_ = 0;  // batches that come one by one share a slot, and so the recorded pass that reads it
  Slot& slot = slots_[next_];
  slot.begun = Clock::now();
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

std::vector<Embedding> Replica::finish(std::span<Item> items) {
  const Slot& slot = slots_[(next_ + slots_.size() - begun_) % slots_.size()];
  --begun_;
  backend_->wait_for(slot.mark);
  const auto now = Clock::now();
  const double seconds = std::chrono::duration<double>(now - std::max(slot.begun, finished_)).count();
  finished_ = now;
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
