#include "server/routes.h"

#include <algorithm>

#include "base/strings.h"
#include "server/models.h"

namespace tandem::server {
namespace {

constexpr Route kRoutes[] = {
    // The model's work.
    {"POST", "/v1/embeddings", post_embeddings, &kEmbeddingsOperation, Errors::openai, false, Needs::any},
    {"POST", "/embeddings", post_embeddings, &kEmbeddingsOperation, Errors::openai, false, Needs::any},
    {"POST", "/embeddings_image", post_image_embeddings, &kImageEmbeddingsOperation, Errors::openai, false, Needs::any},
    {"POST", "/classify", post_classify, &kClassifyOperation, Errors::openai, false, Needs::any},
    {"POST", "/search", post_search, &kSearchOperation, Errors::openai, false, Needs::any},
    {"POST", "/similarity", post_similarity, &kSimilarityOperation, Errors::openai, false, Needs::any},
    {"POST", "/infer", post_infer, &kInferOperation},
    {"POST", "/api", post_feature, &kFeatureOperation},
    // The same work in the manner of other servers.
    {"POST", "/rerank", post_rerank, &kRerankOperation, Errors::openai, false, Needs::any},
    {"POST", "/reranking", post_rerank, &kRerankOperation, Errors::openai, false, Needs::any},
    {"POST", "/v1/rerank", post_rerank, &kRerankOperation, Errors::openai, false, Needs::any},
    {"POST", "/v2/rerank", post_rerank, &kRerankOperation, Errors::openai, false, Needs::any},
    {"POST", "/v1/embed", post_cohere, &kCohereOperation, Errors::message, false, Needs::any},
    {"POST", "/v2/embed", post_cohere, &kCohereOperation, Errors::message, false, Needs::any},
    {"POST", "/embed", post_tei_embed, &kTeiEmbedOperation, Errors::tei},
    {"POST", "/", post_tei_embed, &kTeiEmbedOperation, Errors::tei},
    {"POST", "/invocations", post_tei_embed, &kTeiEmbedOperation, Errors::tei},
    {"POST", "/tokenize", post_tei_tokenize, &kTeiTokenizeOperation, Errors::tei},
    {"POST", "/predict", post_immich, &kImmichOperation},
    {"POST", "/vectorize", post_weaviate, &kWeaviateOperation, Errors::bare},
    {"POST", "/clip/embed_image", post_roboflow_image, &kRoboflowImageOperation, Errors::message},
    {"POST", "/clip/embed_text", post_roboflow_text, &kRoboflowTextOperation, Errors::message},
    {"POST", "/clip/compare", post_roboflow_compare, &kRoboflowCompareOperation, Errors::message},
    // What there is.
    {"GET", "/models", get_infinity_models, &kInfinityModelsOperation},
    {"GET", "/meta", get_weaviate_meta, &kWeaviateMetaOperation},
    {"GET", "/v1/models", get_models, &kModelsOperation},
    {"GET", "/v1/models/*", get_model, &kModelOperation},
    {"GET", "/info", get_info, &kInfoOperation},
    {"GET", "/openapi.json", get_openapi, &kOpenapiOperation},
    {"GET", "/labels", get_labels, &kLabelsOperation},
    {"GET", "/gallery", get_gallery, &kGalleryOperation},
    {"GET", "/gallery/*", get_picture, &kPictureOperation, Errors::openai, true},
    // What it remembers.
    {"POST", "/cache/clear", post_cache_clear, &kCacheClearOperation, Errors::openai, false, Needs::any},
    {"POST", "/clear_cache", post_cache_clear, &kCacheClearOperation, Errors::openai, false, Needs::any},
    // How it is.
    {"GET", "/ping", get_ping, &kPingOperation},
    {"GET", "/.well-known/live", get_weaviate_live, &kWeaviateLiveOperation},
    {"GET", "/.well-known/ready", get_weaviate_ready, &kWeaviateReadyOperation},
    {"GET", "/health", get_health, &kHealthOperation},
    {"GET", "/ready", get_ready, &kReadyOperation},
    {"GET", "/livez", get_health, &kHealthOperation},
    {"GET", "/healthz", get_health, &kHealthOperation},
    {"GET", "/v1/health", get_health, &kHealthOperation},
    {"GET", "/v1/health/live", get_health, &kHealthOperation},
    {"GET", "/v2/health/live", get_health, &kHealthOperation},
    {"GET", "/readyz", get_ready, &kReadyOperation},
    {"GET", "/v1/health/ready", get_ready, &kReadyOperation},
    {"GET", "/v2/health/ready", get_ready, &kReadyOperation},
    {"GET", "/metrics", get_metrics, &kMetricsOperation, Errors::openai, true},
    {"GET", "/stats", get_stats, &kStatsOperation, Errors::openai, true},
    // The page.
    {"GET", "/", get_page, &kPageOperation},
    {"GET", "/docs", get_page},
    {"GET", "/assets/*", get_page},
    {"GET", "/favicon.ico", get_page},
};

bool matches(const Route& route, std::string_view path) {
  if (!route.path.ends_with("/*")) return route.path == path;
  return path.size() >= route.path.size() && path.starts_with(route.path.substr(0, route.path.size() - 1));
}

/// The route, or the answer that says why there is none.
const Route* find(const Call& call, std::optional<Answer>& refusal) {
  std::string allowed;
  for (const Route& route : kRoutes) {
    if (!matches(route, call.path)) continue;
    if (route.method == call.method) return &route;
    allowed += cat(allowed.empty() ? "" : ", ", route.method, route.method == "GET" ? ", HEAD" : "");
  }
  if (allowed.empty()) {
    refusal =
        error_answer(404, code_name(Code::not_found),
                     cat("there is nothing at ", call.path.substr(0, 200), "; GET / is the page, GET /info the facts"));
    return nullptr;
  }
  allowed += ", OPTIONS";
  if (call.method == "OPTIONS") {
    refusal.emplace();
    refusal->status = 204;
    refusal->content_type.clear();
  } else {
    refusal = error_answer(405, "method_not_allowed",
                           cat(call.path.substr(0, 200), " answers ", allowed, ", not ", call.method.substr(0, 32)));
  }
  refusal->headers.emplace_back("Allow", allowed);
  return nullptr;
}

void run(const Route& route, Service& service, const CallPtr& call, const Reply& reply) noexcept {
  try {
    const Reply way = in_shape(reply, route.errors);
    try {
      if (route.method == "POST") call->wishes = wishes_of(call->priority, call->timeout);
      route.handler(service, call, way);
    } catch (...) {
      way(answer_to_current_exception());
    }
  } catch (...) {
    reply(answer_to_current_exception());
  }
}

/// Whether the body is parsed sooner than another thread would wake up for it.
bool is_quick(const Call& call) noexcept {
  if (call.body.size() <= kInlineBytes) return true;
  if (call.body.size() > kInlinePicture) return false;
  if (call.content_type.starts_with("image/")) return true;
  const auto parts = std::count_if(call.body.begin(), call.body.end(), [](char c) { return c == '"' || c == ','; });
  return parts <= kInlineParts;
}

}  // namespace

std::span<const Route> routes() noexcept {
  return kRoutes;
}

std::size_t route_of(const Call& call) noexcept {
  std::size_t at = 0;
  while (at < std::size(kRoutes) && (kRoutes[at].method != call.method || !matches(kRoutes[at], call.path))) ++at;
  return at;
}

std::optional<Answer> refuse_early(const Service& service, const Call& call) {
  std::optional<Answer> refusal;
  const Route* route = find(call, refusal);
  if (refusal || route->method != "POST") return refusal;
  // A page of another site must not spend this machine's time. Programs do not send this header.
  if (call.fetch_site == "cross-site" && !call.facts.origin_allowed) {
    return error_answer(403, "forbidden", "requests from pages of other sites are refused");
  }
  try {
    if (route->needs == Needs::any) {
      require_any(service);
    } else {
      service.require_ready();
    }
  } catch (...) {
    return in_shape(answer_to_current_exception(), route->errors);
  }
  return std::nullopt;
}

void dispatch(Service& service, const CallPtr& call, const Reply& reply) noexcept {
  try {
    if (std::optional<Answer> refusal = refuse_early(service, *call)) return reply(std::move(*refusal));
    std::optional<Answer> none;
    const Route& route = *find(*call, none);
    if (!route.on_pool && is_quick(*call)) return run(route, service, call, reply);
    service.pool().submit([&route, &service, call, reply] {
      if (!call->cancel->load()) return run(route, service, call, reply);
      const bool gone = state_of(service) != State::draining;  // else the server stops, and withdrew what waits
      reply(error_answer(gone ? Code::cancelled : Code::unavailable,
                         gone ? "the client has gone" : "the server is stopping"));
    });
  } catch (...) {
    reply(answer_to_current_exception());
  }
}

}  // namespace tandem::server
