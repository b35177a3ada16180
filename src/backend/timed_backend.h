// A backend that says where the time of a pass goes.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "backend/forwarding_backend.h"

namespace tandem::backend {

/// Gives every call to another backend and measures it: an operation by moments before and behind it, on the device's
/// clock; a copy between host and device by the host's clock, from when nothing else was going on until it was done.
/// Everything is issued step by step, by one thread, copies included; so every operation also has the few microseconds
/// that a device takes to begin one.
class TimedBackend final : public ForwardingBackend {
 public:
  struct Stage {
    std::string name;  ///< "attention", "q, k, v", …, "copy in"
    double milliseconds = 0;
    int operations = 0;
  };

  explicit TimedBackend(std::unique_ptr<Backend> inner) : ForwardingBackend(*inner), inner_(std::move(inner)) {}

  /// What was measured since the last call, equal stages added up, in the order in which they first came. Waits for
  /// the device.
  std::vector<Stage> take_stages();

  void replay(const PassKey&, const std::function<void()>& pass) override { pass(); }
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
