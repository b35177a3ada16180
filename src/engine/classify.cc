// Zero-shot classification (Radford et al. 2021, section 3.1) on top of the two embeddings.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/strings.h"
#include "tandem/zero_shot.h"

namespace tandem {

std::string fill_template(std::string_view frame, std::string_view label) {
  std::string text;
  std::size_t at = 0;
  for (std::size_t hole; (hole = frame.find("{}", at)) != std::string_view::npos; at = hole + 2) {
    text.append(frame, at, hole - at).append(label);
  }
  return text.append(frame, at);
}

LabelAverager::LabelAverager(std::vector<std::string> labels, std::size_t templates)
    : templates_(std::max<std::size_t>(templates, 1)) {
  set_.labels = std::move(labels);
}

void LabelAverager::add(std::span<const float> vector) {
  if (taken_ == wanted()) throw Error(Code::internal, cat("more than ", wanted(), " vectors of labels"));
  if (taken_ == 0) {
    set_.vectors.reserve(set_.labels.size() * vector.size());
    sum_.assign(vector.size(), 0);
  }
  if (vector.size() != sum_.size()) throw Error(Code::internal, "vectors of labels differ in size");
  const std::size_t label = taken_++ / templates_;
  if (templates_ == 1) {  // a unit vector needs no second scaling, and stays the same bits
    set_.vectors.insert(set_.vectors.end(), vector.begin(), vector.end());
    return;
  }
  for (std::size_t i = 0; i < vector.size(); ++i) sum_[i] += vector[i];
  if (taken_ % templates_ != 0) return;
  const double norm = std::sqrt(std::inner_product(sum_.begin(), sum_.end(), sum_.begin(), 0.0));
  if (norm == 0) throw Error(Code::internal, cat("label '", set_.labels[label], "': its templates cancel out"));
  for (double& value : sum_) {
    set_.vectors.push_back(static_cast<float>(value / norm));
    value = 0;
  }
}

LabelSet LabelAverager::take() && {
  if (taken_ < wanted()) throw Error(Code::internal, cat(taken_, " of ", wanted(), " vectors of labels"));
  return std::move(set_);
}

std::vector<LabelScore> score_labels(std::span<const float> image, const LabelSet& labels, double logit_scale,
                                     std::size_t top) {
  const std::size_t count = labels.labels.size();
  if (count == 0 || labels.vectors.size() != count * image.size()) {
    throw Error(Code::invalid_argument, "the label set is not from this model: make it with encode_labels");
  }
  std::vector<LabelScore> scores;
  scores.reserve(count);
  for (std::size_t label = 0; label < count; ++label) {
    const float* vector = labels.vectors.data() + label * image.size();
    const double cosine = std::inner_product(image.begin(), image.end(), vector, 0.0);
    scores.push_back({label, static_cast<float>(cosine * logit_scale), 0.0F});
  }
  const float largest = std::max_element(scores.begin(), scores.end(), [](const LabelScore& a, const LabelScore& b) {
                          return a.logit < b.logit;
                        })->logit;
  const auto weight = [largest](const LabelScore& s) { return std::exp(static_cast<double>(s.logit) - largest); };
  double sum = 0;
  for (const LabelScore& score : scores) sum += weight(score);
  const std::size_t shown = top == 0 ? count : std::min(top, count);
  std::partial_sort(scores.begin(), scores.begin() + static_cast<std::ptrdiff_t>(shown), scores.end(),
                    [](const LabelScore& a, const LabelScore& b) {
                      return a.logit != b.logit ? a.logit > b.logit : a.label < b.label;
                    });
  scores.resize(shown);
  for (LabelScore& score : scores) score.probability = static_cast<float>(weight(score) / sum);
  return scores;
}

LabelSet Engine::encode_labels(std::span<const std::string> labels, std::span<const std::string> templates) {
  if (labels.empty()) throw Error(Code::invalid_argument, "there are no labels: give at least one");
  for (const std::string& t : templates) {
    if (t.find("{}") == std::string::npos) {
      throw Error(Code::invalid_argument, cat("template '", t, "' lacks {}, where the label goes"));
    }
  }
  std::vector<TextInput> texts;
  for (const std::string& label : labels) {
    if (templates.empty()) texts.emplace_back(label);
    for (const std::string& t : templates) texts.emplace_back(fill_template(t, label));
  }
  LabelAverager average({labels.begin(), labels.end()}, templates.size());
  for (const Embedding& text : embed_texts(texts)) {
    if (text.error) {
      const std::size_t label = average.taken() / std::max<std::size_t>(templates.size(), 1);
      throw Error(text.error->code, cat("label '", labels[label], "': ", text.error->message));
    }
    average.add(text.values);
  }
  return std::move(average).take();
}

std::vector<Classification> Engine::classify(std::span<const ImageInput> images, const LabelSet& labels,
                                             std::size_t top) {
  const auto dim = static_cast<std::size_t>(info().embed_dim);
  if (labels.labels.empty() || labels.vectors.size() != labels.labels.size() * dim) {
    throw Error(Code::invalid_argument, "the label set is not from this model: make it with encode_labels");
  }
  const auto embedded = embed_images(images);
  std::vector<Classification> out(images.size());
  for (std::size_t i = 0; i < images.size(); ++i) {
    if (embedded[i].error) {
      out[i].error = embedded[i].error;
    } else {
      out[i].labels = score_labels(embedded[i].values, labels, info().logit_scale, top);
    }
  }
  return out;
}

}  // namespace tandem
