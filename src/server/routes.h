// Which path is answered by what: the one table of the server.
#pragma once

#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "server/message.h"
#include "server/openapi.h"
#include "server/service.h"

namespace tandem::server {

/// Answers a call now or later, on any thread. May throw: the exception becomes the answer.
using Handler = void (*)(Service& service, const CallPtr& call, const Reply& reply);

/// Which models a request can be for, so that it can be refused before its body is read.
enum class Needs : std::uint8_t {
  first,  ///< the first, whatever it says: its clients cannot choose
  any,    ///< the handler finds out
};

struct Route {
  std::string_view method;  ///< GET (also answers HEAD) or POST
  std::string_view path;    ///< the whole path; ending in "/*": everything below
  Handler handler;
  const ApiOperation* operation = nullptr;  ///< null: of the page, not of the API
  Errors errors = Errors::openai;
  bool on_pool = false;        ///< reads files: never on an I/O thread
  Needs needs = Needs::first;  ///< of a POST
};

std::span<const Route> routes() noexcept;

/// Which of routes() a call asks for; their number: none.
std::size_t route_of(const Call& call) noexcept;

/// Answers the call by the table: 404, 405 with Allow, OPTIONS, and every exception included. Bodies beyond
/// kInlineBytes are handled on the service's pool.
void dispatch(Service& service, const CallPtr& call, const Reply& reply) noexcept;

/// What can be said before the body is read: an answer when the request will be refused whatever it holds.
std::optional<Answer> refuse_early(const Service& service, const Call& call);

/// Bodies that are parsed on the thread that read them: up to this many bytes; up to that many where the body is a
/// picture, of which nothing is parsed, or JSON with few quotes and commas, which is a picture in base64.
inline constexpr std::size_t kInlineBytes = 32 << 10, kInlinePicture = 256 << 10;
inline constexpr std::ptrdiff_t kInlineParts = 64;

/// What parse() makes of a call's body, which is freed. While both are there, and the parser's own memory, they are
/// counted; afterwards what was made of the body stands for it.
template <class Parse>
auto take_body(Service& service, Call& call, Parse parse) {
  const BodyLimits limits = service.body_limits();
  const Extra counted(call.memory, parse_bytes(call.body, limits), "parsing the body");
  auto made = parse(limits);
  service.bodies()->give(std::exchange(call.body, {}));
  return made;
}

/// The same for a body that is no JSON: what is made of it takes as much as it has itself.
template <class Parse>
auto take_bytes(Service& service, Call& call, Parse parse) {
  const Extra counted(call.memory, call.body.size(), "parsing the body");
  auto made = parse(service.body_limits());
  service.bodies()->give(std::exchange(call.body, {}));
  return made;
}

// cache.cc
void post_cache_clear(Service&, const CallPtr&, const Reply&);
extern const ApiOperation kCacheClearOperation;
// embeddings.cc
void post_embeddings(Service&, const CallPtr&, const Reply&);
extern const ApiOperation kEmbeddingsOperation;
void post_image_embeddings(Service&, const CallPtr&, const Reply&);
extern const ApiOperation kImageEmbeddingsOperation;
// dialects/: one file each
void post_tei_embed(Service&, const CallPtr&, const Reply&);
extern const ApiOperation kTeiEmbedOperation;
void post_tei_tokenize(Service&, const CallPtr&, const Reply&);
extern const ApiOperation kTeiTokenizeOperation;
void post_rerank(Service&, const CallPtr&, const Reply&);
extern const ApiOperation kRerankOperation;
void post_cohere(Service&, const CallPtr&, const Reply&);
extern const ApiOperation kCohereOperation;
void post_similarity(Service&, const CallPtr&, const Reply&);
extern const ApiOperation kSimilarityOperation;
void get_infinity_models(Service&, const CallPtr&, const Reply&);
extern const ApiOperation kInfinityModelsOperation;
void post_immich(Service&, const CallPtr&, const Reply&);
extern const ApiOperation kImmichOperation;
void get_ping(Service&, const CallPtr&, const Reply&);
extern const ApiOperation kPingOperation;
void post_weaviate(Service&, const CallPtr&, const Reply&);
extern const ApiOperation kWeaviateOperation;
void get_weaviate_meta(Service&, const CallPtr&, const Reply&);
extern const ApiOperation kWeaviateMetaOperation;
void get_weaviate_live(Service&, const CallPtr&, const Reply&);
extern const ApiOperation kWeaviateLiveOperation;
void get_weaviate_ready(Service&, const CallPtr&, const Reply&);
extern const ApiOperation kWeaviateReadyOperation;
void post_roboflow_image(Service&, const CallPtr&, const Reply&);
extern const ApiOperation kRoboflowImageOperation;
void post_roboflow_text(Service&, const CallPtr&, const Reply&);
extern const ApiOperation kRoboflowTextOperation;
void post_roboflow_compare(Service&, const CallPtr&, const Reply&);
extern const ApiOperation kRoboflowCompareOperation;
void post_infer(Service&, const CallPtr&, const Reply&);
extern const ApiOperation kInferOperation;
void post_feature(Service&, const CallPtr&, const Reply&);
extern const ApiOperation kFeatureOperation;
// classify.cc
void post_classify(Service&, const CallPtr&, const Reply&);
extern const ApiOperation kClassifyOperation;
void get_labels(Service&, const CallPtr&, const Reply&);
extern const ApiOperation kLabelsOperation;
// search.cc
void post_search(Service&, const CallPtr&, const Reply&);
extern const ApiOperation kSearchOperation;
void get_gallery(Service&, const CallPtr&, const Reply&);
extern const ApiOperation kGalleryOperation;
void get_picture(Service&, const CallPtr&, const Reply&);
extern const ApiOperation kPictureOperation;
// status.cc
void get_health(Service&, const CallPtr&, const Reply&);
extern const ApiOperation kHealthOperation;
void get_ready(Service&, const CallPtr&, const Reply&);
extern const ApiOperation kReadyOperation;
void get_info(Service&, const CallPtr&, const Reply&);
extern const ApiOperation kInfoOperation;
void get_models(Service&, const CallPtr&, const Reply&);
extern const ApiOperation kModelsOperation;
void get_model(Service&, const CallPtr&, const Reply&);
extern const ApiOperation kModelOperation;
// reports.cc
void get_metrics(Service&, const CallPtr&, const Reply&);
extern const ApiOperation kMetricsOperation;
void get_stats(Service&, const CallPtr&, const Reply&);
extern const ApiOperation kStatsOperation;
// openapi.cc
void get_openapi(Service&, const CallPtr&, const Reply&);
extern const ApiOperation kOpenapiOperation;
// page.cc
void get_page(Service&, const CallPtr&, const Reply&);
extern const ApiOperation kPageOperation;

}  // namespace tandem::server
