// Zero-shot classification (Radford et al. 2021, section 3.1) on top of the two embeddings.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/strings.h"
#include "tandem/engine.h"

namespace tandem {
namespace {

std::string fill(const std::string& text, const std::string& label) {
  std::string out;
  std::size_t at = 0;
  for (std::size_t found; (found = text.find("{}", at)) != std::string::npos; at = found + 2) {
    out.append(text, at, found - at).append(label);
  }
  return out.append(text, at, std::string::npos);
}

}  // namespace

LabelSet Engine::encode_labels(std::span<const std::string> labels, std::span<const std::string> templates) {
  if (labels.empty()) throw Error(Code::invalid_argument, "there are no labels: give at least one");
  for (const std::string& t : templates) {
    if (t.find("{}") == std::string::npos) {
      throw Error(Code::invalid_argument, cat("template '", t, "' lacks {}, where the label goes"));
    }
  }
  const std::size_t each = std::max<std::size_t>(templates.size(), 1);
  std::vector<TextInput> texts;
  for (const std::string& label : labels) {
    if (templates.empty()) texts.emplace_back(label);
    for (const std::string& t : templates) texts.emplace_back(fill(t, label));
  }
  const auto embedded = embed_texts(texts);
  LabelSet out;
  out.labels.assign(labels.begin(), labels.end());
  const auto dim = static_cast<std::size_t>(info().embed_dim);
  out.vectors.resize(labels.size() * dim);
  std::vector<double> sum(dim);
  for (std::size_t i = 0; i < labels.size(); ++i) {
    std::fill(sum.begin(), sum.end(), 0.0);
    for (std::size_t j = 0; j < each; ++j) {
      const Embedding& e = embedded[i * each + j];
      if (e.error) throw Error(e.error->code, cat("label '", labels[i], "': ", e.error->message));
      for (std::size_t k = 0; k < dim; ++k) sum[k] += e.values[k];
    }
    const double norm = std::sqrt(std::inner_product(sum.begin(), sum.end(), sum.begin(), 0.0));
    if (norm == 0) throw Error(Code::internal, cat("label '", labels[i], "': its templates cancel out"));
    for (std::size_t k = 0; k < dim; ++k) out.vectors[i * dim + k] = static_cast<float>(sum[k] / norm);
  }
  return out;
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
    Classification& c = out[i];
    if (embedded[i].error) {
      c.error = embedded[i].error;
      continue;
    }
    const float* image = embedded[i].values.data();
    for (std::size_t l = 0; l < labels.labels.size(); ++l) {
      const double cosine = std::inner_product(image, image + dim, labels.vectors.data() + l * dim, 0.0);
      c.labels.push_back({l, static_cast<float>(cosine * info().logit_scale), 0.0F});
    }
    std::stable_sort(c.labels.begin(), c.labels.end(),
                     [](const LabelScore& a, const LabelScore& b) { return a.logit > b.logit; });
    double sum = 0;
    for (const LabelScore& s : c.labels) sum += std::exp(static_cast<double>(s.logit) - c.labels.front().logit);
    for (LabelScore& s : c.labels) {
      s.probability = static_cast<float>(std::exp(static_cast<double>(s.logit) - c.labels.front().logit) / sum);
    }
    if (top > 0 && top < c.labels.size()) c.labels.resize(top);
  }
  return out;
}

}  // namespace tandem
