// A backend that says where the time of a pass goes.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace tandem::backend {

/// Gives every call to another backend and measures it: an operation by moments before and behind it, on the device's
/// clock; a copy between host and device by the host's clock, from when nothing else was going on until it was done.
/// Everything is issued step by step, by one thread, copies included; so every operation also has the few microseconds
/// that a device takes to begin one.
class TimedBackend final : public Backend {
 public:
  struct Stage {
    std::string name;  ///< "attention", "q, k, v", …, "copy in"
    double milliseconds = 0;
    int operations = 0;
  };

  explicit TimedBackend(std::unique_ptr<Backend> inner) : inner_(std::move(inner)) {}

  /// What was measured since the last call, equal stages added up, in the order in which they first came. Waits for
  /// the device.
  std::vector<Stage> take_stages();

  DeviceId device() const override { return inner_->device(); }
  std::string device_name() const override { return inner_->device_name(); }
  std::string isa() const override { return inner_->isa(); }
  Precision resolve(Precision precision) const override { return inner_->resolve(precision); }
  ComputeTypes types(Precision precision) const override { return inner_->types(precision); }
  Buffer allocate(std::size_t bytes) override { return inner_->allocate(bytes); }
  void synchronize() override { inner_->synchronize(); }
  Buffer allocate_landing(std::size_t bytes) override { return inner_->allocate_landing(bytes); }
  void pass_begins() noexcept override { inner_->pass_begins(); }
  void pass_ends() noexcept override { inner_->pass_ends(); }
  std::uint64_t mark() override { return inner_->mark(); }
  void wait_for(std::uint64_t mark) override { inner_->wait_for(mark); }
  void wait_asleep(std::uint64_t mark) override { inner_->wait_asleep(mark); }
  Memory memory() const override { return inner_->memory(); }
  void* stream() const noexcept override { return inner_->stream(); }
  Precision kept(Precision precision) const override { return inner_->kept(precision); }
  std::unique_ptr<PreparedWeight> prepare_linear(ConstView weight, Precision precision, const WeightUse& use) override {
    return inner_->prepare_linear(weight, precision, use);
  }
  std::unique_ptr<PreparedWeight> prepare_norm_linear(ConstView weight, ConstView bias, ConstView gamma, ConstView beta,
                                                      Precision precision, const WeightUse& use) override {
    return inner_->prepare_norm_linear(weight, bias, gamma, beta, precision, use);
  }
  std::unique_ptr<PreparedWeight> prepare_patch_embed(ConstView weight, ConstView bias, const float mean[3],
                                                      const float std[3], float rescale, Precision precision) override {
    return inner_->prepare_patch_embed(weight, bias, mean, std, rescale, precision);
  }
  std::unique_ptr<PreparedWeight> prepare_projection(ConstView weight) override {
    return inner_->prepare_projection(weight);
  }
  Tensor prepare_vector(ConstView vector) override { return inner_->prepare_vector(vector); }
  Tensor prepare_table(ConstView table, Precision precision) override {
    return inner_->prepare_table(table, precision);
  }
  std::size_t patch_embed_scratch(std::int64_t batch, int image, int patch, std::int64_t width,
                                  Precision precision) const override {
    return inner_->patch_embed_scratch(batch, image, patch, width, precision);
  }
  void start_tuning() override { inner_->start_tuning(); }
  std::string tuned() const override { return inner_->tuned(); }
  int take_tuned(const std::string& text, const std::string& file) override { return inner_->take_tuned(text, file); }
  std::shared_ptr<const Choices> choices() const override { return inner_->choices(); }
  std::shared_ptr<const LinearWork> linear_work() const override { return inner_->linear_work(); }
  std::unique_ptr<Moment> moment() override { return inner_->moment(); }
  void linger(double milliseconds) override { inner_->linger(milliseconds); }

  void upload(const void* host, View to) override;
  void download(ConstView from, void* host) override;
  void upload_beside(const void* host, View to) override;
  void join_uploads() override;
  void download_later(ConstView from, void* landing) override;
  void patch_embed(const PatchEmbedArgs& a) override;
  void layer_norm(const LayerNormArgs& a) override;
  void linear(const LinearArgs& a) override;
  void norm_linear(const NormLinearArgs& a) override;
  void attention(const AttentionArgs& a) override;
  void embed_tokens(const EmbedTokensArgs& a) override;
  void select_rows(const SelectRowsArgs& a) override;
  void project(const ProjectArgs& a) override;
  void norm_project(const NormProjectArgs& a) override;
  void similarity(const SimilarityArgs& a) override;

 private:
  struct Record {
    const char* stage;
    std::unique_ptr<Moment> begin, end;
  };
  template <class Call>
  void operation(const char* stage, Call call);
  template <class Call>
  void copy(const char* stage, Call call);
  void add(const char* stage, double milliseconds, int operations);
  void settle();

  std::unique_ptr<Backend> inner_;
  std::vector<Record> records_;  ///< whose moments the device may not have reached
  std::vector<Stage> stages_;
  std::optional<std::chrono::steady_clock::time_point> uploading_;
  bool ahead_ = false;  ///< the host issues faster than the device computes
};

}  // namespace tandem::backend
