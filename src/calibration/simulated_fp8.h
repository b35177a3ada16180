// fp8 where no device multiplies it: what a layer reads and its weights become E4M3 numbers, and their products are
// computed in fp32.
#pragma once

#include <memory>

#include "backend/forwarding_backend.h"

namespace tandem::calibration {

/// In front of a backend of the host's memory. Computes in fp8 as backend.h defines it: every output of a weight has a
/// scale, its largest magnitude / 448; the rows that a layer reads have one each, or the layer's static one. What a
/// model does besides is the backend's fp32, and so are layers that are kept back.
class SimulatedFp8 final : public backend::ForwardingBackend {
 public:
  /// `to` must stay. Throws internal where its memory is not the host's.
  explicit SimulatedFp8(backend::Backend& to);

  std::string isa() const override { return to_.isa() + ", fp8 simulated"; }
  Precision resolve(Precision precision) const override;
  backend::ComputeTypes types(Precision precision) const override { return to_.types(plain(precision)); }
  Precision kept(Precision precision) const override { return to_.kept(plain(precision)); }
  std::unique_ptr<backend::PreparedWeight> prepare_linear(ConstView weight, Precision precision,
                                                          const backend::WeightUse& use) override;
  std::unique_ptr<backend::PreparedWeight> prepare_norm_linear(ConstView weight, ConstView bias, ConstView gamma,
                                                               ConstView beta, Precision precision,
                                                               const backend::WeightUse& use) override;
  std::unique_ptr<backend::PreparedWeight> prepare_patch_embed(ConstView weight, ConstView bias, const float mean[3],
                                                               const float std[3], float rescale,
                                                               Precision precision) override {
    return to_.prepare_patch_embed(weight, bias, mean, std, rescale, plain(precision));
  }
  Tensor prepare_table(ConstView table, Precision precision) override {
    return to_.prepare_table(table, plain(precision));
  }
  std::size_t patch_embed_scratch(std::int64_t batch, int image, int patch, std::int64_t width,
                                  Precision precision) const override {
    return to_.patch_embed_scratch(batch, image, patch, width, plain(precision));
  }
  void layer_norm(const backend::LayerNormArgs& a) override;
  void linear(const backend::LinearArgs& a) override;
  void norm_linear(const backend::NormLinearArgs& a) override;
  void attention(const backend::AttentionArgs& a) override;

 private:
  static Precision plain(Precision p) { return p == Precision::fp8 ? Precision::fp32 : p; }

  Buffer rows_;  ///< what a product reads; it grows to what the largest one needed
};

}  // namespace tandem::calibration
