// A backend that passes every call on to another, for tests that watch or disturb what the model asks for.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "backend/backend.h"

namespace tandem::backend::test {

class ForwardingBackend : public Backend {
 public:
  explicit ForwardingBackend(std::unique_ptr<Backend> to) : to_(std::move(to)) {}
  std::function<void(const LinearArgs&)> on_linear;  ///< before every call
  void* stream_mark = nullptr;

  DeviceId device() const override { return to_->device(); }
  std::string device_name() const override { return to_->device_name(); }
  std::string isa() const override { return to_->isa(); }
  Precision resolve(Precision p) const override { return to_->resolve(p); }
  ComputeTypes types(Precision p) const override { return to_->types(p); }
  Buffer allocate(std::size_t bytes) override { return to_->allocate(bytes); }
  void upload(const void* host, View to) override { to_->upload(host, to); }
  void download(ConstView from, void* host) override { to_->download(from, host); }
  void synchronize() override { to_->synchronize(); }
  void* stream() const noexcept override { return stream_mark; }
  Precision kept(Precision p) const override { return to_->kept(p); }
  std::unique_ptr<PreparedWeight> prepare_linear(ConstView w, Precision p, const WeightUse& use) override {
    return to_->prepare_linear(w, p, use);
  }
  std::unique_ptr<PreparedWeight> prepare_patch_embed(ConstView w, ConstView bias, const float mean[3],
                                                      const float std[3], float rescale, Precision p) override {
    return to_->prepare_patch_embed(w, bias, mean, std, rescale, p);
  }
  std::unique_ptr<PreparedWeight> prepare_projection(ConstView w) override { return to_->prepare_projection(w); }
  Tensor prepare_vector(ConstView v) override { return to_->prepare_vector(v); }
  Tensor prepare_table(ConstView t, Precision p) override { return to_->prepare_table(t, p); }
  std::size_t patch_embed_scratch(std::int64_t batch, int image, int patch, std::int64_t width,
                                  Precision p) const override {
    return to_->patch_embed_scratch(batch, image, patch, width, p);
  }
  std::size_t linear_scratch(std::int64_t rows, std::int64_t inputs, Precision p) const override {
    return to_->linear_scratch(rows, inputs, p);
  }
  void patch_embed(const PatchEmbedArgs& a) override { to_->patch_embed(a); }
  void layer_norm(const LayerNormArgs& a) override { to_->layer_norm(a); }
  void linear(const LinearArgs& a) override {
    if (on_linear) on_linear(a);
    to_->linear(a);
  }
  void attention(const AttentionArgs& a) override { to_->attention(a); }
  void embed_tokens(const EmbedTokensArgs& a) override { to_->embed_tokens(a); }
  void select_rows(const SelectRowsArgs& a) override { to_->select_rows(a); }
  void project(const ProjectArgs& a) override { to_->project(a); }
  void similarity(const SimilarityArgs& a) override { to_->similarity(a); }

 private:
  std::unique_ptr<Backend> to_;
};

}  // namespace tandem::backend::test
