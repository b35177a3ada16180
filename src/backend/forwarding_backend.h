// A backend that gives every call to another one: what watches or measures overrides the calls that it is after.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "backend/backend.h"

namespace tandem::backend {

class ForwardingBackend : public Backend {
 public:
  /// `to` must stay.
  explicit ForwardingBackend(Backend& to) : to_(to) {}

  DeviceId device() const override { return to_.device(); }
  std::string device_name() const override { return to_.device_name(); }
  std::string isa() const override { return to_.isa(); }
  Precision resolve(Precision precision) const override { return to_.resolve(precision); }
  ComputeTypes types(Precision precision) const override { return to_.types(precision); }
  Buffer allocate(std::size_t bytes) override { return to_.allocate(bytes); }
  void upload(const void* host, View to) override { to_.upload(host, to); }
  void download(ConstView from, void* host) override { to_.download(from, host); }
  void synchronize() override { to_.synchronize(); }
  void upload_beside(const void* host, View to) override { to_.upload_beside(host, to); }
  void join_uploads() override { to_.join_uploads(); }
  Buffer allocate_landing(std::size_t bytes) override { return to_.allocate_landing(bytes); }
  void download_later(ConstView from, void* landing) override { to_.download_later(from, landing); }
  std::uint64_t mark() override { return to_.mark(); }
  void wait_for(std::uint64_t mark) override { to_.wait_for(mark); }
  void wait_asleep(std::uint64_t mark) override { to_.wait_asleep(mark); }
  void pass_begins() noexcept override { to_.pass_begins(); }
  void pass_ends() noexcept override { to_.pass_ends(); }
  Memory memory() const override { return to_.memory(); }
  void* stream() const noexcept override { return to_.stream(); }
  Precision kept(Precision precision) const override { return to_.kept(precision); }
  std::unique_ptr<PreparedWeight> prepare_linear(ConstView weight, Precision precision, const WeightUse& use) override {
    return to_.prepare_linear(weight, precision, use);
  }
  std::unique_ptr<PreparedWeight> prepare_norm_linear(ConstView weight, ConstView bias, ConstView gamma, ConstView beta,
                                                      Precision precision, const WeightUse& use) override {
    return to_.prepare_norm_linear(weight, bias, gamma, beta, precision, use);
  }
  std::unique_ptr<PreparedWeight> prepare_patch_embed(ConstView weight, ConstView bias, const float mean[3],
                                                      const float std[3], float rescale, Precision precision) override {
    return to_.prepare_patch_embed(weight, bias, mean, std, rescale, precision);
  }
  std::unique_ptr<PreparedWeight> prepare_projection(ConstView weight) override {
    return to_.prepare_projection(weight);
  }
  Tensor prepare_vector(ConstView vector) override { return to_.prepare_vector(vector); }
  Tensor prepare_table(ConstView table, Precision precision) override { return to_.prepare_table(table, precision); }
  std::size_t patch_embed_scratch(std::int64_t batch, int image, int patch, std::int64_t width,
                                  Precision precision) const override {
    return to_.patch_embed_scratch(batch, image, patch, width, precision);
  }
  std::size_t linear_scratch(std::int64_t rows, std::int64_t inputs, Precision precision) const override {
    return to_.linear_scratch(rows, inputs, precision);
  }
  void replay(const PassKey& key, const std::function<void()>& pass) override { to_.replay(key, pass); }
  void start_tuning() override { to_.start_tuning(); }
  std::string tuned() const override { return to_.tuned(); }
  int take_tuned(const std::string& text, const std::string& file) override { return to_.take_tuned(text, file); }
  std::shared_ptr<const Choices> choices() const override { return to_.choices(); }
  std::shared_ptr<const LinearWork> linear_work() const override { return to_.linear_work(); }
  std::unique_ptr<Moment> moment() override { return to_.moment(); }
  void linger(double milliseconds) override { to_.linger(milliseconds); }

  void patch_embed(const PatchEmbedArgs& a) override { to_.patch_embed(a); }
  void layer_norm(const LayerNormArgs& a) override { to_.layer_norm(a); }
  void linear(const LinearArgs& a) override { to_.linear(a); }
  void norm_linear(const NormLinearArgs& a) override { to_.norm_linear(a); }
  void attention(const AttentionArgs& a) override { to_.attention(a); }
  void embed_tokens(const EmbedTokensArgs& a) override { to_.embed_tokens(a); }
  void select_rows(const SelectRowsArgs& a) override { to_.select_rows(a); }
  void project(const ProjectArgs& a) override { to_.project(a); }
  void norm_project(const NormProjectArgs& a) override { to_.norm_project(a); }
  void similarity(const SimilarityArgs& a) override { to_.similarity(a); }

 protected:
  Backend& to_;
};

}  // namespace tandem::backend
