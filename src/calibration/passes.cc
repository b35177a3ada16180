#include "calibration/passes.h"

#include <algorithm>
#include <span>

#include "base/strings.h"
#include "tandem/error.h"

namespace tandem::calibration {
namespace {

void take(backend::Backend& backend, ConstView vectors, std::vector<float>& rows) {
  const std::size_t before = rows.size();
  rows.resize(before + static_cast<std::size_t>(vectors.shape.elements()));
  backend.download(vectors, rows.data() + before);
}

}  // namespace

Vectors embed(backend::Backend& backend, const model::Model& model, const Inputs& inputs, std::size_t batch,
              const Step& step) {
  const model::Config& c = model.config;
  Vectors out;
  parallel::Alone alone;
  if (!inputs.pictures.empty() && model.vision) {
    const auto side = std::int64_t{c.vision.image_size}, most = static_cast<std::int64_t>(batch);
    const Buffer memory = backend.allocate(static_cast<std::size_t>(most * side * side * 3));
    Arena arena(backend.allocate(model::plan_images(backend, model.precision, c.vision, c.embed_dim, most)));
    model::Execution execution{backend, arena, alone, model.precision};
    for (std::size_t at = 0; at < inputs.pictures.size(); at += batch) {
      const std::size_t count = std::min(batch, inputs.pictures.size() - at);
      const auto n = static_cast<std::int64_t>(count);
      for (std::size_t i = 0; i < count; ++i) {
        const auto& picture = inputs.pictures[at + i];
        if (static_cast<std::int64_t>(picture.size()) != side * side * 3) {
          throw Error(Code::invalid_argument,
                      cat("a picture of ", picture.size(), " bytes is not one of ", side, " x ", side, " pixels"));
        }
        const View rows(memory.data(), DType::u8, {n, side * side * 3});
        backend.upload(picture.data(), rows.row_range(static_cast<std::int64_t>(i), 1));
      }
      const ConstView pixels(memory.data(), DType::u8, {n, side, side, 3});
      take(backend, model::encode_images(execution, c.vision, *model.vision, c.embed_dim, pixels, {}).projected,
           out.images);
      step(count);
    }
  }
  if (!inputs.texts.empty() && model.text) {
    for (std::size_t at = 0; at < inputs.texts.size(); at += batch) {
      const std::size_t count = std::min(batch, inputs.texts.size() - at);
      std::vector<std::span<const std::int32_t>> ids;
      for (std::size_t i = 0; i < count; ++i) ids.emplace_back(inputs.texts[at + i]);
      model::PackedTexts packed;
      model::pack_texts(c.text, ids, false, packed);
      Arena arena(backend.allocate(
          model::plan_texts(backend, model.precision, c.text, c.embed_dim, packed.count(), packed.rows())));
      model::Execution execution{backend, arena, alone, model.precision};
      take(backend, model::encode_texts(execution, c.text, *model.text, c.embed_dim, packed, {}).projected, out.texts);
      step(count);
    }
  }
  return out;
}

}  // namespace tandem::calibration
