#include "cuda_shapes.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <iostream>
#include <random>

namespace tandem::bench {
namespace {

/// Rows of packed texts: small passes are padded to multiples of sixteen, and these stand for the ones between them.
constexpr std::array kTextRows{16, 32, 48, 64, 80, 128, 160, 256, 512, 1024, 1232, 2048, 3840, 11008, 19712};
constexpr std::array kBatches{1, 2, 4, 8, 16, 32, 64, 128, 256};

/// The products of one width, as a pass issues them.
class Products {
 public:
  Products(Backend& backend, const Tower& t, Precision precision, std::int64_t most_rows)
      : backend_(backend),
        fn_(t.fn),
        data_(backend, backend.types(precision).activation),
        residuals_(backend, backend.types(precision).residual),
        floats_(backend, DType::f32),
        h_(data_.matrix(most_rows, t.width)),
        room_(data_.matrix(most_rows, t.width)),
        wide_(data_.matrix(most_rows, t.mlp)),
        x_(residuals_.matrix(most_rows, t.width)),
        pooled_(floats_.matrix(kBatches.back(), t.width)),
        projected_(floats_.matrix(kBatches.back(), t.embed)),
        selected_(residuals_.matrix(kBatches.back(), t.width)),
        gamma_(floats_.vector(t.width)),
        bias_(floats_.vector(t.mlp)),
        projection_(floats_.projection(t.embed, t.width)) {
    for (const std::int64_t outputs : {3 * t.width, 2 * t.width, t.width, t.mlp}) {
      weights_.push_back(data_.norm_weight(outputs, t.width, precision));
    }
    for (const std::int64_t inputs : {t.width, t.mlp}) weights_.push_back(data_.weight(t.width, inputs, precision));
  }

  /// All blocks but the last.
  void block(std::int64_t rows) {
    normed(kQkv, x_, rows);
    rest(x_, rows);
  }
  /// The last block and the projection, for so many items with so many rows.
  void last(std::int64_t rows, std::int64_t items) {
    normed(kKv, x_, rows);
    normed(kQ, selected_, items);
    rest(selected_, items);
    backend_.norm_project({selected_.row_range(0, items), gamma_.view(), gamma_.view(), 1e-5F,
                           pooled_.row_range(0, items), projection_.get(), true, projected_.row_range(0, items)});
  }

 private:
  enum Which : std::size_t { kQkv, kKv, kQ, kFc1, kOut, kFc2 };

  void rest(View x, std::int64_t rows) {
    add(kOut, h_, x, rows);
    normed(kFc1, x, rows, fn_);
    add(kFc2, wide_, x, rows);
  }
  /// wide = fn(W ln(x) + b)
  void normed(Which which, View x, std::int64_t rows, ActivationFn fn = ActivationFn::none) {
    const PreparedWeight& w = *weights_[which];
    const ConstView bias(bias_.view().data, DType::f32, {w.outputs()});
    NormLinearArgs a;
    a.x = x.row_range(0, rows), a.gamma = a.beta = gamma_.view(), a.weight = &w, a.bias = bias, a.fn = fn;
    a.normalized.view = room_.row_range(0, rows);
    a.out.view = {wide_.data, wide_.dtype, {rows, w.outputs()}};
    backend_.norm_linear(a);
  }
  /// x = x + W in + b
  void add(Which which, View in, View x, std::int64_t rows) {
    const PreparedWeight& w = *weights_[which];
    const View out = x.row_range(0, rows);
    const ConstView bias(bias_.view().data, DType::f32, {w.outputs()});
    backend_.linear({View{in.data, in.dtype, {rows, w.inputs()}}, &w, bias, ActivationFn::none, out, {out, {}}});
  }

  Backend& backend_;
  const ActivationFn fn_;
  Data data_, residuals_, floats_;
  View h_, room_, wide_, x_, pooled_, projected_, selected_;
  Tensor gamma_, bias_;
  std::vector<std::unique_ptr<PreparedWeight>> weights_;
  std::unique_ptr<PreparedWeight> projection_;
};

}  // namespace

Data::Data(Backend& backend, DType type) : backend_(backend), type_(type), some_(host_tensor(type, {1, kSome})) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 1);
  Tensor values = host_tensor(DType::f32, {1, kSome});
  for (std::int64_t i = 0; i < kSome; ++i) values.view().as<float>()[i] = normal(random);
  convert(values.view(), some_.view());
}

View Data::matrix(std::int64_t rows, std::int64_t columns) {
  const auto size = static_cast<std::int64_t>(size_of(type_)), all = rows * columns;
  buffers_.push_back(backend_.allocate(static_cast<std::size_t>(all * size)));
  std::byte* data = buffers_.back().data();
  for (std::int64_t at = 0; at < all; at += kSome) {
    backend_.upload(some_.view().data, {data + at * size, type_, {std::min(kSome, all - at)}});
  }
  return {data, type_, {rows, columns}};
}

Tensor Data::random_weight(std::int64_t outputs, std::int64_t inputs) {
  Tensor host = host_tensor(DType::f32, outputs == 1 ? Shape{inputs} : Shape{outputs, inputs});
  std::mt19937 random(static_cast<unsigned>(++made_));
  std::uniform_real_distribution<float> uniform(-1, 1);
  const float spread = 1 / std::sqrt(static_cast<float>(inputs));
  for (std::int64_t i = 0; i < outputs * inputs; ++i) host.view().as<float>()[i] = spread * uniform(random);
  return host;
}

std::unique_ptr<PreparedWeight> Data::weight(std::int64_t outputs, std::int64_t inputs, Precision precision) {
  return backend_.prepare_linear(random_weight(outputs, inputs).view(), precision);
}

std::unique_ptr<PreparedWeight> Data::norm_weight(std::int64_t outputs, std::int64_t inputs, Precision precision) {
  const Tensor gamma = random_weight(1, inputs), bias = random_weight(1, outputs);
  return backend_.prepare_norm_linear(random_weight(outputs, inputs).view(), bias.view(), gamma.view(), gamma.view(),
                                      precision);
}

std::unique_ptr<PreparedWeight> Data::projection(std::int64_t outputs, std::int64_t inputs) {
  return backend_.prepare_projection(random_weight(outputs, inputs).view());
}

Patches::Patches(Backend& backend, const Tower& t, std::int64_t batch, Precision precision)
    : backend_(backend), data_(backend, backend.types(precision).residual) {
  const std::int64_t inputs = std::int64_t{3} * t.patch * t.patch;
  const float mean[3] = {0.48F, 0.46F, 0.41F}, std[3] = {0.27F, 0.26F, 0.28F};
  Tensor kernel = host_tensor(DType::f32, {t.width, 3, t.patch, t.patch});
  std::mt19937 random(1);
  for (std::int64_t i = 0; i < t.width * inputs; ++i) {
    kernel.view().as<float>()[i] = 0.01F * (static_cast<float>(random() % 2001) / 1000 - 1);
  }
  weight_ = backend.prepare_patch_embed(kernel.view(), {}, mean, std, 1.0F / 255, precision);
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(batch * t.image * t.image * 3));
  for (auto& p : pixels) p = static_cast<std::uint8_t>(random());
  pixels_ = backend.allocate(pixels.size());
  args_.pixels = {pixels_.data(), DType::u8, {batch, t.image, t.image, 3}};
  backend.upload(pixels.data(), {pixels_.data(), DType::u8, {batch, t.image, t.image, 3}});
  const std::vector<float> zeros(static_cast<std::size_t>(t.tokens * t.width), 0.0F);
  const auto* some = reinterpret_cast<const std::byte*>(zeros.data());
  position_ = backend.prepare_vector({some, DType::f32, {t.tokens, t.width}});
  class_embedding_ = data_.vector(t.width);
  const std::size_t scratch = backend.patch_embed_scratch(batch, t.image, t.patch, t.width, precision);
  scratch_ = backend.allocate(scratch);
  args_.weight = weight_.get(), args_.patch = t.patch;
  args_.class_embedding = class_embedding_.view(), args_.position = position_.view();
  args_.scratch = {scratch_.data(), DType::u8, {static_cast<std::int64_t>(scratch)}};
  args_.out = data_.matrix(batch * t.tokens, t.width);
  flops_ = 2.0 * static_cast<double>(batch * (t.tokens - 1) * inputs * t.width);
  bytes_ = static_cast<double>(pixels.size() + weight_->bytes() + args_.out.bytes());
}

void tune_towers(Backend& backend, Precision precision, const std::string& only) {
  for (const Tower& t : kTowers) {
    if (only != "all" && only != t.name) continue;
    std::cerr << "tuning " << t.name << std::endl;
    const bool images = t.image > 0;
    const std::int64_t most = images ? kBatches.back() * t.tokens : kTextRows.back();
    Products products(backend, t, precision, most);
    for (const std::int64_t batch : kBatches) {
      products.last(images ? batch * t.tokens : std::min(batch * t.tokens, most), batch);
      if (images) products.block(batch * t.tokens);
      if (images) Patches(backend, t, batch, precision).embed();
      backend.synchronize();
    }
    if (images) continue;
    for (const std::int64_t rows : kTextRows) {
      products.block(rows);
      products.last(rows, 1);
    }
    backend.synchronize();
  }
}

}  // namespace tandem::bench
