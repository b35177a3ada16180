#include <algorithm>
#include <iterator>

#include "base/strings.h"
#include "model/config.h"
#include "tandem/error.h"

namespace tandem::model {
namespace {

std::string_view name_of(Pooling p) {
  switch (p) {
    case Pooling::cls: return "the class token";
    case Pooling::eot: return "the end token";
    case Pooling::last: return "the last token";
    case Pooling::mean: return "the mean of all tokens";
    case Pooling::map: return "attention (a learned query)";
  }
  return "?";
}

void refuse_if(bool asked, const Config& config, std::string_view what, std::string_view remedy) {
  if (!asked) return;
  throw Error(Code::unsupported, cat("model ", config.name.empty() ? config.architecture : config.name, " has ", what,
                                     ", which is not computed: ", remedy));
}

}  // namespace

void check_family(const Config& c) {
  constexpr std::string_view kRemedy = "load a model of the CLIP family";
  const VisionConfig& v = c.vision;
  refuse_if(v.pooling != Pooling::cls, c, cat("pictures pooled by ", name_of(v.pooling)), kRemedy);
  refuse_if(!v.class_token, c, "a vision tower without a class token", kRemedy);
  refuse_if(!v.pre_norm, c, "a vision tower without a norm before its blocks", kRemedy);
  refuse_if(v.projection_bias, c, "a bias on the vision projection", kRemedy);
  const TextConfig& t = c.text;
  refuse_if(t.pooling != Pooling::eot, c, cat("texts pooled by ", name_of(t.pooling)), kRemedy);
  refuse_if(t.mask != TextMask::causal, c, "a text tower without a causal mask", kRemedy);
  refuse_if(t.padding != TextPadding::unseen, c, "texts that attend to their padding", kRemedy);
  refuse_if(t.projection_bias, c, "a bias on the text projection", kRemedy);
  refuse_if(c.score != Score::softmax, c, cat("sigmoid scores (with the bias ", c.logit_bias, ")"), kRemedy);
}

bool same_network(const Config& a, const Config& b) {
  const PreprocessConfig &p = a.preprocess, &q = b.preprocess;
  return a.vision == b.vision && a.text == b.text && a.layout == b.layout && a.embed_dim == b.embed_dim &&
         a.score == b.score && a.logit_bias == b.logit_bias &&
         // Pixels' normalisation is folded into the patch embedding.
         std::equal(std::begin(p.mean), std::end(p.mean), std::begin(q.mean)) &&
         std::equal(std::begin(p.std), std::end(p.std), std::begin(q.std)) && p.rescale == q.rescale;
}

}  // namespace tandem::model
