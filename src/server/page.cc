// The web page and its assets, compiled in from web/.
#include "server/assets.h"
#include "server/routes.h"

namespace tandem::server {

const ApiOperation kPageOperation{"about", "The web page", nullptr, R"({"text/html": {"schema": {"type": "string"}}})"};

void get_page(Service&, const CallPtr& call, const Reply& reply) {
  std::string_view name = call->path;
  name.remove_prefix(name.starts_with("/assets/") ? std::string_view("/assets/").size() : 1);
  if (name.empty()) name = "index.html";
  if (name == "favicon.ico") name = "icon.svg";
  if (name == "docs") name = "docs.html";
  for (const Asset& asset : assets()) {
    if (asset.name != name) continue;
    Answer answer;
    answer.content_type = asset.content_type;
    answer.headers.emplace_back("ETag", asset.etag);
    answer.headers.emplace_back("Cache-Control", "no-cache");
    // Nothing from elsewhere, nothing inline: what a picture's name or a label says can never run.
    answer.headers.emplace_back("Content-Security-Policy",
                                "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
                                "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
    answer.headers.emplace_back("Referrer-Policy", "no-referrer");
    if (call->if_none_match.find(asset.etag) != std::string::npos) {
      answer.status = 304;
    } else {
      answer.fixed_body = asset.bytes;
    }
    return reply(std::move(answer));
  }
  throw Error(Code::not_found, "there is no such file: GET / is the page");
}

}  // namespace tandem::server
