#include "backend/timed_backend.h"

#include <algorithm>

namespace tandem::backend {
namespace {

/// Longer than a host takes to issue a pass.
constexpr double kLinger = 20;

using Clock = std::chrono::steady_clock;

double milliseconds_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

/// Which layer of a transformer's block a product belongs to, by what is fused to it.
const char* layer_of(const LinearArgs& a) {
  if (a.fn != ActivationFn::none) return "fc1 and activation";
  if (!a.residual) return "q, k, v";
  return a.weight->inputs() > a.weight->outputs() ? "fc2" : "attention output";
}

}  // namespace

void TimedBackend::add(const char* stage, double milliseconds, int operations) {
  auto found = std::find_if(stages_.begin(), stages_.end(), [&](const Stage& s) { return s.name == stage; });
  if (found == stages_.end()) found = stages_.insert(found, {stage, 0, 0});
  found->milliseconds += milliseconds, found->operations += operations;
}

void TimedBackend::settle() {
  for (const Record& r : records_) add(r.stage, r.end->since(*r.begin), 1);
  records_.clear();
  ahead_ = false;
}

std::vector<TimedBackend::Stage> TimedBackend::take_stages() {
  settle();
  return std::exchange(stages_, {});
}

template <class Call>
void TimedBackend::operation(const char* stage, Call call) {
  if (!std::exchange(ahead_, true)) inner_->linger(kLinger);
  auto begin = inner_->moment();
  call();
  records_.push_back({stage, std::move(begin), inner_->moment()});
}

template <class Call>
void TimedBackend::copy(const char* stage, Call call) {
  settle();
  inner_->synchronize();
  const auto begin = Clock::now();
  call();
  inner_->synchronize();
  add(stage, milliseconds_since(begin), 1);
}

void TimedBackend::upload(const void* host, View to) {
  copy("copy in", [&] { inner_->upload(host, to); });
}
void TimedBackend::download(ConstView from, void* host) {
  copy("copy out", [&] { inner_->download(from, host); });
}
// Copies beside the work go together: from the first one until all have arrived.
void TimedBackend::upload_beside(const void* host, View to) {
  if (!uploading_) {
    settle();
    inner_->synchronize();
    uploading_ = Clock::now();
  }
  inner_->upload_beside(host, to);
}
void TimedBackend::join_uploads() {
  inner_->join_uploads();
  inner_->synchronize();
  if (uploading_) add("copy in", milliseconds_since(*std::exchange(uploading_, std::nullopt)), 1);
}
void TimedBackend::download_later(ConstView from, void* landing) {
  copy("copy out", [&] { inner_->download_later(from, landing); });
}

void TimedBackend::patch_embed(const PatchEmbedArgs& a) {
  operation("patch embedding", [&] { inner_->patch_embed(a); });
}
void TimedBackend::layer_norm(const LayerNormArgs& a) {
  operation("layer norm", [&] { inner_->layer_norm(a); });
}
void TimedBackend::linear(const LinearArgs& a) {
  operation(layer_of(a), [&] { inner_->linear(a); });
}
void TimedBackend::norm_linear(const NormLinearArgs& a) {
  if (!a.weight->folds_norm() && !a.weight->has_scales()) return Backend::norm_linear(a);  // each for itself
  operation(a.fn != ActivationFn::none ? "layer norm, fc1 and activation" : "layer norm and q, k, v",
            [&] { inner_->norm_linear(a); });
}
void TimedBackend::attention(const AttentionArgs& a) {
  operation("attention", [&] { inner_->attention(a); });
}
void TimedBackend::embed_tokens(const EmbedTokensArgs& a) {
  operation("token embedding", [&] { inner_->embed_tokens(a); });
}
void TimedBackend::select_rows(const SelectRowsArgs& a) {
  operation("row selection", [&] { inner_->select_rows(a); });
}
void TimedBackend::project(const ProjectArgs& a) {
  operation("projection", [&] { inner_->project(a); });
}
void TimedBackend::norm_project(const NormProjectArgs& a) {
  operation("last layer norm and projection", [&] { inner_->norm_project(a); });
}
void TimedBackend::similarity(const SimilarityArgs& a) {
  operation("similarity", [&] { inner_->similarity(a); });
}

}  // namespace tandem::backend
