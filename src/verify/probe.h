// A backend that watches one model compute, and gives every layer's inputs to another model's same layer.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "backend/forwarding_backend.h"
#include "verify/difference.h"

namespace tandem::verify {

/// Rows of a view in a backend's memory as float32 on the host. Waits for the work that makes them.
std::vector<float> fetch(backend::Backend& backend, ConstView view);

/// The pass of `want` goes through this; it is the same pass, but that nothing is handed from product to product in a
/// form of the backend's own (`reader`), so that inputs can be read.
class Probe final : public backend::ForwardingBackend {
 public:
  /// All must stay.
  Probe(const Side& got, const Side& want);

  /// The layers met so far, in the order in which they first came; forgets them.
  std::vector<LayerError> take();

  void patch_embed(const backend::PatchEmbedArgs& a) override;
  void layer_norm(const backend::LayerNormArgs& a) override;
  void linear(const backend::LinearArgs& a) override;
  void norm_linear(const backend::NormLinearArgs& a) override;
  void attention(const backend::AttentionArgs& a) override;
  void embed_tokens(const backend::EmbedTokensArgs& a) override;
  void norm_project(const backend::NormProjectArgs& a) override;

 private:
  /// A layer of `got`, found by the weight of `want` that stands in its place.
  struct Place {
    std::string layer, kind;
    const model::Linear* linear = nullptr;
    const model::Norm* norm = nullptr;  ///< in front; none: there is none
    std::int64_t first = 0;             ///< channel of the layer's outputs that this product begins with
  };
  struct Met {
    std::string layer, kind;
    Difference difference;
  };
  void map_blocks(const std::string& tower, const model::BlockStore& got, const model::BlockStore& want);
  void add(const std::string& layer, const std::string& kind, const std::vector<float>& got,
           const std::vector<float>& want, std::int64_t columns, std::int64_t first = 0);
  /// Memory of got's backend, until the next operation.
  View room(DType type, Shape shape);
  View given(const std::vector<float>& values, DType type, Shape shape);

  const Side& got_;
  const Side& want_;
  std::map<const backend::PreparedWeight*, Place> places_;
  std::vector<Met> met_;
  std::vector<Buffer> rooms_;
};

}  // namespace tandem::verify
