// What strangers send in a request's body: the first byte chooses the parser. Whatever comes, a parser returns a value
// or throws Error.
#include <cstdint>
#include <string>

#include "base/base64_kernels.h"
#include "server/body.h"
#include "server/dialects/bodies.h"
#include "server/message.h"
#include "server/vectors.h"
#include "tandem/error.h"

namespace {

/// Every kernel says what the scalar one says, and what it encodes comes back.
void check_base64(std::string_view text) {
  using namespace tandem::base64;
  const auto said = [&](const Kernels& kernels) -> std::pair<std::vector<std::byte>, std::string> {
    try {
      return {decode(kernels, text), ""};
    } catch (const tandem::Error& error) {
      return {{}, error.what()};
    }
  };
  const auto plain = said(available().back());
  for (const Kernels& kernels : available()) {
    if (said(kernels) != plain) __builtin_trap();
    std::string code, back;
    append(kernels, plain.first, code);
    if (!decode_strict(kernels, code, back) || decode(kernels, code) != plain.first) __builtin_trap();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tandem::server;
  if (size == 0) return 0;
  const std::string body(reinterpret_cast<const char*>(data) + 1, size - 1);
  BodyLimits limits;
  limits.max_items = 20;
  limits.max_text_bytes = 1000;
  limits.max_label_texts = 100;
  try {
    switch (data[0] % 21) {
      case 0: parse_embeddings(body, limits); break;
      case 1: parse_classify(body, limits); break;
      case 2: parse_search(body, limits); break;
      case 3: {
        const std::size_t line = std::min(body.find('\n'), body.size());
        parse_classify_form(std::string_view(body).substr(std::min(line + 1, body.size())), body.substr(0, line),
                            limits);
        break;
      }
      case 4: {
        const std::size_t line = std::min(body.find('\n'), body.size());
        parse_classify_picture("picture", body.substr(0, line), limits);
        break;
      }
      case 6: parse_rerank(body, limits); break;
      case 7: parse_tei_embed(body, limits); break;
      case 8: parse_tei_tokenize(body, limits); break;
      case 9: parse_similarity(body, limits); break;
      case 10: parse_weaviate(body, limits); break;
      case 11: parse_roboflow_images(body, limits); break;
      case 12: parse_roboflow_texts(body, limits); break;
      case 13: parse_roboflow_compare(body, limits); break;
      case 14: parse_infer(body, limits); break;
      case 15: parse_feature(body, limits); break;
      case 16: parse_image_embeddings(body, limits); break;
      case 17: parse_embeddings_npy(std::make_shared<const std::string>(body), {}, limits); break;
      case 18:
      case 19: {
        const std::size_t line = std::min(body.find('\n'), body.size());
        const std::string_view form = std::string_view(body).substr(std::min(line + 1, body.size()));
        if (data[0] % 21 == 18) {
          parse_embeddings_form(form, body.substr(0, line), limits);
        } else {
          parse_immich(form, body.substr(0, line), limits);
        }
        wire_of(body.substr(0, line));
        break;
      }
      case 20: parse_cohere(body, limits); break;
      case 5: {
        check_base64(body);
        json_string(body);
        break;
      }
    }
  } catch (const tandem::Error&) {
  }
  return 0;
}
