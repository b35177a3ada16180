#include "verify/layers.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <span>
#include <sstream>

#include "base/strings.h"
#include "model/config.h"
#include "verify/probe.h"

namespace tandem::verify {
namespace {

/// A pass of one tower on a backend that is `side`'s own, or watches it. The observer is called as PassOptions says.
void run_images(backend::Backend& backend, const Side& side, const LayerInputs& inputs,
                const model::Observer& observer) {
  const model::Config& c = side.model.config;
  const auto count = static_cast<std::int64_t>(inputs.pictures.size()), size = std::int64_t{c.vision.image_size};
  const Buffer pixels = backend.allocate(static_cast<std::size_t>(count * size * size * 3));
  const View rows(pixels.data(), DType::u8, {count, size * size * 3});
  for (std::int64_t i = 0; i < count; ++i) {
    const auto& picture = inputs.pictures[static_cast<std::size_t>(i)];
    if (static_cast<std::int64_t>(picture.size()) != size * size * 3) {
      throw Error(Code::invalid_argument,
                  cat("a picture of ", picture.size(), " bytes is not one of ", size, " x ", size, " pixels"));
    }
    backend.upload(picture.data(), rows.row_range(i, 1));
  }
  Arena arena(backend.allocate(model::plan_images(backend, side.model.precision, c.vision, c.embed_dim, count)));
  parallel::Alone alone;
  model::Execution execution{backend, arena, alone, side.model.precision};
  model::encode_images(execution, c.vision, *side.model.vision, c.embed_dim,
                       ConstView(pixels.data(), DType::u8, {count, size, size, 3}), {true, false, observer});
  backend.synchronize();
}

void run_texts(backend::Backend& backend, const Side& side, const LayerInputs& inputs,
               const model::Observer& observer) {
  const model::Config& c = side.model.config;
  std::vector<std::span<const std::int32_t>> ids(inputs.texts.begin(), inputs.texts.end());
  model::PackedTexts packed;
  model::pack_texts(c.text, ids, false, packed);
  Arena arena(backend.allocate(
      model::plan_texts(backend, side.model.precision, c.text, c.embed_dim, packed.count(), packed.rows())));
  parallel::Alone alone;
  model::Execution execution{backend, arena, alone, side.model.precision};
  model::encode_texts(execution, c.text, *side.model.text, c.embed_dim, packed, {true, false, observer});
  backend.synchronize();
}

using Run = void (*)(backend::Backend&, const Side&, const LayerInputs&, const model::Observer&);

/// One tower's layers and blocks.
void profile(const std::string& tower, Run run, const Side& got, const Side& want, const LayerInputs& inputs,
             std::vector<LayerError>& out) {
  std::map<int, std::vector<float>> by_itself;
  run(got.backend, got, inputs, [&](int block, ConstView x) {
    if (block >= 0) by_itself[block] = fetch(got.backend, x);
  });
  Probe probe(got, want);
  run(probe, want, inputs, [&](int block, ConstView x) {
    if (block < 0) return;
    for (LayerError& layer : probe.take()) out.push_back(std::move(layer));
    Difference difference;
    difference.add(by_itself.at(block), fetch(want.backend, x), x.columns());
    out.push_back(difference.result());
    out.back().layer = cat(tower, ".blocks.", block), out.back().kind = "block";
  });
  for (LayerError& layer : probe.take()) out.push_back(std::move(layer));
}

/// The relative error of a product that a precision explains: of rounding in sixteen bits, and of eight-bit steps for
/// weights and activations with the outliers that trained models have.
double explained(Precision precision) {
  switch (precision) {
    case Precision::automatic:
    case Precision::fp32: return 1e-4;
    case Precision::tf32:
    case Precision::fp16: return 5e-3;
    case Precision::bf16: return 2e-2;
    case Precision::int8: return 0.05;
    case Precision::fp8: return 0.08;
  }
  return 0.1;
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// More than its likes by so much is no accident.
constexpr double kUnlike = 4;
/// A channel may err so many times more than the whole.
constexpr double kChannel = 4;

std::string percent(double share) {
  std::ostringstream out;
  out.precision(3);
  out << 100 * share << " %";
  return out.str();
}

}  // namespace

std::vector<LayerError> profile_layers(const Side& got, const Side& want, const LayerInputs& inputs) {
  if (!model::same_network(got.model.config, want.model.config)) {
    throw Error(Code::invalid_argument,
                cat("the layers of ", got.model.config.name, " and ", want.model.config.name,
                    " cannot be compared: they are different networks; compare models of one architecture"));
  }
  std::vector<LayerError> layers;
  if (!inputs.pictures.empty() && got.model.vision && want.model.vision) {
    profile("vision", run_images, got, want, inputs, layers);
  }
  if (!inputs.texts.empty() && got.model.text && want.model.text) {
    profile("text", run_texts, got, want, inputs, layers);
  }
  return layers;
}

void find_suspects(std::vector<LayerError>& layers, Precision got, Precision want) {
  const double floor = std::max(explained(got), explained(want));
  const auto usual = [&](const LayerError& like, const std::function<double(const LayerError&)>& value) {
    std::vector<double> same, all;
    for (const LayerError& l : layers) {
      if (l.kind == "block") continue;
      all.push_back(value(l));
      if (l.kind == like.kind) same.push_back(value(l));
    }
    return median(same.size() >= 3 ? same : all);
  };
  for (LayerError& l : layers) {
    l.suspicion.clear();
    if (l.kind == "block") continue;
    const auto unlike = [&](double limit, const std::function<double(const LayerError&)>& value) {
      return value(l) > std::max(limit, kUnlike * usual(l, value));
    };
    if (unlike(floor, [](const LayerError& e) { return std::abs(e.gain - 1); })) {
      l.suspicion = cat("its output is ", l.gain, " times what it should be");
    } else if (unlike(floor, [](const LayerError& e) { return e.relative_error; })) {
      const double others = usual(l, [](const LayerError& e) { return e.relative_error; });
      l.suspicion = cat("its output is wrong by ", percent(l.relative_error), ", others by ", percent(others));
    } else if (unlike(kChannel * floor, [](const LayerError& e) { return e.worst_channel_error; })) {
      l.suspicion = cat("channel ", l.worst_channel, " of its output is wrong by ", percent(l.worst_channel_error));
    }
  }
}

}  // namespace tandem::verify
