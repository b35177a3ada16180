#include "verify/probe.h"

#include <algorithm>
#include <utility>

#include "base/strings.h"

namespace tandem::verify {

using namespace backend;  // NOLINT: its argument structs, in every line

std::vector<float> fetch(Backend& backend, ConstView view) {
  const std::int64_t rows = view.rows(), columns = view.columns();
  const Tensor host = host_tensor(view.dtype, {rows, columns});
  if (view.contiguous()) {
    backend.download(ConstView(view.data, view.dtype, {rows, columns}), host.view().data);
  } else {
    for (std::int64_t r = 0; r < rows; ++r) backend.download(view.row_range(r, 1), host.view().row_range(r, 1).data);
  }
  std::vector<float> values(static_cast<std::size_t>(rows * columns));
  convert(host.view(), {reinterpret_cast<std::byte*>(values.data()), DType::f32, {rows, columns}});
  return values;
}

Probe::Probe(const Side& got, const Side& want) : ForwardingBackend(want.backend), got_(got), want_(want) {
  if (got.model.vision && want.model.vision) {
    map_blocks("vision", *got.model.vision->blocks, *want.model.vision->blocks);
  }
  if (got.model.text && want.model.text) map_blocks("text", *got.model.text->blocks, *want.model.text->blocks);
}

void Probe::map_blocks(const std::string& tower, const model::BlockStore& got, const model::BlockStore& want) {
  for (int i = 0; i < want.count(); ++i) {
    const std::string at = cat(tower, ".blocks.", i, '.');
    const model::HeldBlock ours(got, i, got_.backend), theirs(want, i, want_.backend);
    const model::BlockWeights &g = *ours, &w = *theirs;
    const auto place = [&](const char* kind, const model::Linear& to, const model::Linear& from,
                           const model::Norm* norm, std::int64_t first) {
      if (from.weight) places_[from.weight.get()] = {at + kind, kind, &to, norm, first};
    };
    place("qkv", g.qkv, w.qkv, &g.ln_1, 0);
    place("qkv", g.q, w.q, &g.ln_1, 0);
    place("qkv", g.kv, w.kv, &g.ln_1, w.q.weight ? w.q.weight->outputs() : 0);
    place("out", g.out, w.out, nullptr, 0);
    place("fc1", g.fc1, w.fc1, &g.ln_2, 0);
    place("fc2", g.fc2, w.fc2, nullptr, 0);
  }
}

std::vector<LayerError> Probe::take() {
  std::vector<LayerError> layers;
  for (const Met& met : met_) {
    layers.push_back(met.difference.result());
    layers.back().layer = met.layer, layers.back().kind = met.kind;
  }
  met_.clear();
  return layers;
}

void Probe::add(const std::string& layer, const std::string& kind, const std::vector<float>& got,
                const std::vector<float>& want, std::int64_t columns, std::int64_t first) {
  auto found = std::find_if(met_.begin(), met_.end(), [&](const Met& met) { return met.layer == layer; });
  if (found == met_.end()) found = met_.insert(found, {layer, kind, {}});
  found->difference.add(got, want, columns, first);
  rooms_.clear();
}

View Probe::room(DType type, Shape shape) {
  const std::size_t bytes = static_cast<std::size_t>(shape.elements()) * size_of(type);
  rooms_.push_back(got_.backend.allocate(std::max<std::size_t>(bytes, 1)));
  return {rooms_.back().data(), type, shape};
}

View Probe::given(const std::vector<float>& values, DType type, Shape shape) {
  const View to = room(type, shape);
  const Tensor host = host_tensor(type, shape);
  convert({reinterpret_cast<const std::byte*>(values.data()), DType::f32, shape}, host.view());
  got_.backend.upload(host.view().data, to);
  got_.backend.synchronize();  // the host's copy goes now
  return to;
}

void Probe::patch_embed(const PatchEmbedArgs& a) {
  to_.patch_embed(a);
  const model::VisionWeights& w = *got_.model.vision;
  const auto count = a.pixels.shape[0], side = a.pixels.shape[1];
  std::vector<std::byte> pixels(a.pixels.bytes());
  to_.download(a.pixels, pixels.data());
  PatchEmbedArgs b = a;
  const View copy = room(DType::u8, a.pixels.shape);
  got_.backend.upload(pixels.data(), copy);
  got_.backend.synchronize();
  b.pixels = copy, b.weight = w.patch_embed.get();
  b.class_embedding = w.class_embedding.view(), b.position = w.position.view();
  const auto bytes =
      got_.backend.patch_embed_scratch(count, static_cast<int>(side), a.patch, a.out.columns(), got_.model.precision);
  b.scratch = room(DType::u8, {static_cast<std::int64_t>(bytes)});
  b.out = room(got_.backend.types(got_.model.precision).residual, a.out.shape);
  got_.backend.patch_embed(b);
  add("vision.patch_embed", "embedding", fetch(got_.backend, b.out), fetch(to_, a.out), a.out.columns());
}

void Probe::embed_tokens(const EmbedTokensArgs& a) {
  to_.embed_tokens(a);
  const model::TextWeights& w = *got_.model.text;
  EmbedTokensArgs b = a;
  const auto numbers = [&](const std::int32_t* from) {
    const Shape shape{a.out.rows()};
    std::vector<std::int32_t> values(static_cast<std::size_t>(a.out.rows()));
    to_.download({reinterpret_cast<const std::byte*>(from), DType::i32, shape}, values.data());
    const View to = room(DType::i32, shape);
    got_.backend.upload(values.data(), to);
    got_.backend.synchronize();
    return to.as<std::int32_t>();
  };
  b.ids = numbers(a.ids), b.positions = numbers(a.positions);
  b.table = w.token.view(), b.position = w.position.view();
  b.out = room(got_.backend.types(got_.model.precision).residual, a.out.shape);
  got_.backend.embed_tokens(b);
  add("text.embedding", "embedding", fetch(got_.backend, b.out), fetch(to_, a.out), a.out.columns());
}

void Probe::layer_norm(const LayerNormArgs& a) {
  const bool known = want_.model.vision && a.gamma.data == want_.model.vision->ln_pre.gamma.view().data;
  if (!known) return to_.layer_norm(a);
  const auto x = fetch(to_, a.x);
  to_.layer_norm(a);
  const model::Norm& norm = got_.model.vision->ln_pre;
  const DType type = got_.backend.types(got_.model.precision).residual;
  LayerNormArgs b = a;
  b.gamma = norm.gamma.view(), b.beta = norm.beta.view();
  const View in = given(x, type, {a.x.rows(), a.x.columns()});
  b.x = in, b.out = {in, {}}, b.reader = nullptr;
  got_.backend.layer_norm(b);
  add("vision.ln_pre", "norm", fetch(got_.backend, in), fetch(to_, a.out.view), a.x.columns());
}

void Probe::norm_linear(const NormLinearArgs& a) {
  NormLinearArgs plain = a;
  plain.reader = nullptr;
  const auto x = fetch(to_, a.x);
  to_.norm_linear(plain);
  const auto found = places_.find(a.weight);
  if (found == places_.end()) return;
  const Place& place = found->second;
  const ComputeTypes types = got_.backend.types(got_.model.precision);
  const std::int64_t rows = a.x.rows(), inputs = a.x.columns(), outputs = a.out.view.columns();
  NormLinearArgs b = plain;
  b.x = given(x, types.residual, {rows, inputs});
  b.gamma = place.norm->gamma.view(), b.beta = place.norm->beta.view();
  b.precision = got_.model.precision;
  b.weight = place.linear->weight.get(), b.bias = place.linear->bias.view();
  b.normalized = {room(types.activation, {rows, inputs}), {}};
  b.out = {room(types.activation, {rows, outputs}), {}};
  got_.backend.norm_linear(b);
  add(place.layer, place.kind, fetch(got_.backend, b.out.view), fetch(to_, a.out.view), outputs, place.first);
}

void Probe::linear(const LinearArgs& a) {
  LinearArgs plain = a;
  plain.reader = nullptr;
  const auto found = places_.find(a.weight);
  if (found == places_.end()) return to_.linear(plain);
  const Place& place = found->second;
  const std::int64_t rows = a.x.view.rows(), inputs = a.x.view.columns(), outputs = a.out.view.columns();
  const auto x = fetch(to_, a.x.view);
  // What the layer itself adds: beside a large residual its own error could not be seen.
  const Buffer memory = to_.allocate(static_cast<std::size_t>(rows * outputs) * size_of(a.out.view.dtype));
  LinearArgs alone = plain;
  alone.residual = {}, alone.out = {View(memory.data(), a.out.view.dtype, {rows, outputs}), {}};
  to_.linear(alone);
  const auto want = fetch(to_, alone.out.view);
  to_.linear(plain);
  const ComputeTypes types = got_.backend.types(got_.model.precision);
  LinearArgs b = alone;
  b.x = ConstOperand(given(x, types.activation, {rows, inputs}));
  b.weight = place.linear->weight.get();
  if (a.bias) b.bias = place.linear->bias.view();
  b.out = {room(types.residual, {rows, outputs}), {}};
  got_.backend.linear(b);
  add(place.layer, place.kind, fetch(got_.backend, b.out.view), want, outputs, place.first);
}

void Probe::attention(const AttentionArgs& a) {
  AttentionArgs plain = a;
  plain.reader = nullptr;
  to_.attention(plain);
}

void Probe::norm_project(const NormProjectArgs& a) {
  const bool image = want_.model.vision && a.gamma.data == want_.model.vision->ln_post.gamma.view().data;
  const auto x = fetch(to_, a.x);
  to_.norm_project(a);
  const model::Norm& norm = image ? got_.model.vision->ln_post : got_.model.text->ln_final;
  const auto& weight = image ? got_.model.vision->projection : got_.model.text->projection;
  NormProjectArgs b = a;
  b.x = given(x, got_.backend.types(got_.model.precision).residual, {a.x.rows(), a.x.columns()});
  b.gamma = norm.gamma.view(), b.beta = norm.beta.view(), b.weight = weight.get();
  b.normalized = room(DType::f32, {a.normalized.rows(), a.normalized.columns()});
  b.out = room(DType::f32, {a.out.rows(), a.out.columns()});
  got_.backend.norm_project(b);
  add(image ? "vision.projection" : "text.projection", "projection", fetch(got_.backend, b.out), fetch(to_, a.out),
      a.out.columns());
}

}  // namespace tandem::verify
