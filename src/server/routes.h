// Which path is answered by what: the one table of the server.
#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "server/message.h"
#include "server/service.h"

namespace tandem::server {

/// Answers a call now or later, on any thread. May throw: the exception becomes the answer.
using Handler = void (*)(Service& service, const CallPtr& call, const Reply& reply);

struct Route {
  std::string_view method;  ///< GET (also answers HEAD) or POST
  std::string_view path;    ///< the whole path; ending in "/*": everything below
  Handler handler;
  bool on_pool = false;  ///< reads files: never on an I/O thread
  Errors errors = Errors::openai;
};

std::span<const Route> routes() noexcept;

/// Which of routes() a call asks for; their number: none.
std::size_t route_of(const Call& call) noexcept;

/// Answers the call by the table: 404, 405 with Allow, OPTIONS, and every exception included. Bodies beyond
/// kInlineBytes are handled on the service's pool.
void dispatch(Service& service, const CallPtr& call, const Reply& reply) noexcept;

/// What can be said before the body is read: an answer when the request will be refused whatever it holds.
std::optional<Answer> refuse_early(const Service& service, const Call& call);

inline constexpr std::size_t kInlineBytes = 32 << 10;

/// What parse() makes of a call's body, which is freed. While both are there, and the parser's own memory, they are
/// counted; afterwards what was made of the body stands for it.
template <class Parse>
auto take_body(const Service& service, Call& call, Parse parse) {
  const BodyLimits limits = service.body_limits();
  const Extra counted(call.memory, parse_bytes(call.body, limits), "parsing the body");
  auto made = parse(limits);
  call.body = {};
  return made;
}

/// The same for a body that is no JSON: what is made of it takes as much as it has itself.
template <class Parse>
auto take_bytes(const Service& service, Call& call, Parse parse) {
  const Extra counted(call.memory, call.body.size(), "parsing the body");
  auto made = parse(service.body_limits());
  call.body = {};
  return made;
}

// cache.cc
void post_cache_clear(Service&, const CallPtr&, const Reply&);
// embeddings.cc
void post_embeddings(Service&, const CallPtr&, const Reply&);
void post_image_embeddings(Service&, const CallPtr&, const Reply&);
// dialects/: one file each
void post_tei_embed(Service&, const CallPtr&, const Reply&);
void post_tei_tokenize(Service&, const CallPtr&, const Reply&);
void post_rerank(Service&, const CallPtr&, const Reply&);
void post_similarity(Service&, const CallPtr&, const Reply&);
void get_infinity_models(Service&, const CallPtr&, const Reply&);
void post_immich(Service&, const CallPtr&, const Reply&);
void get_ping(Service&, const CallPtr&, const Reply&);
void post_weaviate(Service&, const CallPtr&, const Reply&);
void get_weaviate_meta(Service&, const CallPtr&, const Reply&);
void get_weaviate_live(Service&, const CallPtr&, const Reply&);
void get_weaviate_ready(Service&, const CallPtr&, const Reply&);
void post_roboflow_image(Service&, const CallPtr&, const Reply&);
void post_roboflow_text(Service&, const CallPtr&, const Reply&);
void post_roboflow_compare(Service&, const CallPtr&, const Reply&);
void post_infer(Service&, const CallPtr&, const Reply&);
void post_feature(Service&, const CallPtr&, const Reply&);
// classify.cc
void post_classify(Service&, const CallPtr&, const Reply&);
void get_labels(Service&, const CallPtr&, const Reply&);
// search.cc
void post_search(Service&, const CallPtr&, const Reply&);
void get_gallery(Service&, const CallPtr&, const Reply&);
void get_picture(Service&, const CallPtr&, const Reply&);
// status.cc
void get_health(Service&, const CallPtr&, const Reply&);
void get_ready(Service&, const CallPtr&, const Reply&);
void get_info(Service&, const CallPtr&, const Reply&);
void get_models(Service&, const CallPtr&, const Reply&);
// reports.cc
void get_metrics(Service&, const CallPtr&, const Reply&);
void get_stats(Service&, const CallPtr&, const Reply&);
// page.cc
void get_page(Service&, const CallPtr&, const Reply&);

}  // namespace tandem::server
