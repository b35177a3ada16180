// The arithmetic of zero-shot classification (Radford et al. 2021, section 3.1), for callers that bring their own
// vectors: Engine::encode_labels() and Engine::classify() are made of it, and so is what goes through Engine::submit().
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tandem/engine.h"

namespace tandem {

/// What models that know photographs are asked with where nothing else is said.
inline constexpr const char* kPhotoTemplate = "a photo of a {}";

/// Every "{}" of a template replaced by the label.
std::string fill_template(std::string_view frame, std::string_view label);

/// Makes a LabelSet of the vectors of its texts, one after the other: label by label, every template of one label
/// before the next label. A label's vectors are averaged and brought to unit length again; a single one stays as it is.
class LabelAverager {
 public:
  /// templates 0: the labels themselves, as with one.
  LabelAverager(std::vector<std::string> labels, std::size_t templates);

  const std::vector<std::string>& labels() const noexcept { return set_.labels; }
  /// How many vectors are wanted in all, and how many there are.
  std::size_t wanted() const noexcept { return set_.labels.size() * templates_; }
  std::size_t taken() const noexcept { return taken_; }

  /// The next text's unit vector. Throws internal when there are too many, when they differ in size, or when a label's
  /// templates cancel out.
  void add(std::span<const float> vector);
  /// The set, once taken() == wanted(); throws internal before.
  LabelSet take() &&;

 private:
  LabelSet set_;
  std::size_t templates_, taken_ = 0;
  std::vector<double> sum_;  // of the label under way
};

/// logit_scale x cosine with every label of a picture's unit vector (embed_dim values), softmax over all of them; the
/// best `top`, or all for 0. Equal scores in the labels' order. Throws invalid_argument when the set is another
/// model's.
std::vector<LabelScore> score_labels(std::span<const float> image, const LabelSet& labels, double logit_scale,
                                     std::size_t top = 0);

}  // namespace tandem
