#include "cli/bench_pass.h"

#include <algorithm>

#include "cli/load_model.h"

namespace tandem::cli {

BenchPass::BenchPass(backend::Backend& backend, const model::ModelFiles& files, const BenchOptions& options,
                     const BenchInputs& inputs, std::size_t batch)
    : backend_(backend),
      inputs_(inputs),
      batch_(batch),
      beside_(backend.stream() != nullptr),
      model_(
          load_model(backend, files, options.common.engine, options.what != What::text, options.what != What::image)) {
  const model::Config& c = model_.config;
  const auto count = static_cast<std::int64_t>(batch);
  std::size_t arena = 0;
  if (model_.vision) {
    arena = model::plan_images(backend, model_.precision, c.vision, c.embed_dim, count);
    const auto side = static_cast<std::size_t>(c.vision.image_size);
    pixels_ = backend.allocate(batch * side * side * 3);
  }
  if (model_.text) {
    const std::int64_t rows = count * c.text.context_length;
    arena = std::max(arena, model::plan_texts(backend, model_.precision, c.text, c.embed_dim, count, rows));
  }
  arena_ = Arena(backend.allocate(arena));
  vectors_ = backend.allocate_landing(batch * static_cast<std::size_t>(c.embed_dim) * sizeof(float));
}

void BenchPass::fetch(ConstView vectors) {
  backend_.download_later(vectors, vectors_.data());
  backend_.wait_for(backend_.mark());
}

void BenchPass::images(std::size_t first) {
  const model::Config& c = model_.config;
  const auto side = std::int64_t{c.vision.image_size}, count = static_cast<std::int64_t>(batch_);
  const View rows(pixels_.data(), DType::u8, {count, side * side * 3});
  for (std::int64_t i = 0; i < count; ++i) {
    const auto& image = inputs_.images[(first + static_cast<std::size_t>(i)) % inputs_.images.size()];
    backend_.upload_beside(std::get<HostPixels>(image).pixels->data(), rows.row_range(i, 1));
  }
  backend_.join_uploads();
  model::Execution execution{backend_, arena_, alone_, model_.precision};
  const ConstView pixels(pixels_.data(), DType::u8, {count, side, side, 3});
  fetch(model::encode_images(execution, c.vision, *model_.vision, c.embed_dim, pixels, {true, true, {}}).projected);
}

void BenchPass::texts(std::size_t first) {
  const model::Config& c = model_.config;
  ids_.clear();
  for (std::size_t i = 0; i < batch_; ++i) {
    ids_.emplace_back(std::get<std::vector<std::int32_t>>(inputs_.texts[(first + i) % inputs_.texts.size()]));
  }
  model::pack_texts(c.text, ids_, true, packed_);
  if (beside_) model::pad_texts(c.text, static_cast<std::int64_t>(batch_) * c.text.context_length, packed_);
  model::Execution execution{backend_, arena_, alone_, model_.precision};
  fetch(model::encode_texts(execution, c.text, *model_.text, c.embed_dim, packed_, {true, true, {}}).projected);
}

}  // namespace tandem::cli
