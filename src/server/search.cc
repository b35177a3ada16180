// POST /search over the gallery, and the gallery's pictures.
#include <charconv>

#include "base/strings.h"
#include "server/embed.h"
#include "server/models.h"
#include "server/routes.h"

namespace tandem::server {
namespace {

std::shared_ptr<Gallery> gallery_of(const Service& service) {
  std::shared_ptr<Gallery> gallery = service.gallery();
  if (!gallery || gallery->size() == 0) {
    throw Error(Code::not_found, "there is no gallery; start the server with --gallery FOLDER");
  }
  return gallery;
}

std::string progress_of(const Gallery& gallery) {
  return cat("{\"count\":", gallery.size(), ",\"done\":", gallery.done(), ",\"failed\":", gallery.failed(), "}");
}

std::string picture_json(const Gallery& gallery, std::size_t id) {
  return cat("\"id\":", id, ",\"name\":", json_string(gallery.name(id)), ",\"url\":\"/gallery/", id, "\"");
}

Answer search_answer(const Gallery& gallery, const Embedding& query, std::size_t top, const char* what) {
  if (query.error) throw FieldError(query.error->code, query.error->message, what);
  Answer answer;
  answer.body = "{\"results\":[";
  std::size_t rank = 0;
  for (const Gallery::Hit& hit : gallery.search(query.values, top)) {
    answer.body += cat(rank > 0 ? "," : "", "{\"rank\":", rank + 1, ",", picture_json(gallery, hit.id), ",\"score\":");
    append_number(hit.score, answer.body);
    answer.body += '}';
    ++rank;
  }
  answer.body += cat("],\"gallery\":", progress_of(gallery), "}");
  return answer;
}

/// A query's whole number, or `otherwise` when it is absent.
std::size_t number_of(const Call& call, const char* name, std::size_t otherwise) {
  const std::string text = query_value(call.query, name);
  if (text.empty()) return otherwise;
  constexpr std::size_t kMost = 1'000'000'000;
  std::size_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number > kMost) {
    throw FieldError(Code::invalid_argument, cat(name, " must be a whole number, not \"", text.substr(0, 32), "\""),
                     name);
  }
  return number;
}

}  // namespace

const ApiOperation kSearchOperation{
    "search", "The gallery's pictures nearest to a text or a picture",
    R"({"application/json": {"schema": {"anyOf": [{"type": "object", "properties": {"text": {"$ref": "#/components/schemas/Text"}, "top": {"type": "integer", "minimum": 1, "maximum": 1000}, "model": {"$ref": "#/components/schemas/Model"}, "image": {"type": "null"}}, "required": ["text"]}, {"type": "object", "properties": {"image": {"$ref": "#/components/schemas/Picture"}, "top": {"type": "integer", "minimum": 1, "maximum": 1000}, "model": {"$ref": "#/components/schemas/Model"}, "text": {"type": "null"}}, "required": ["image"]}]}}})",
    R"({"application/json": {"schema": {"type": "object", "properties": {"results": {"type": "array", "items": {"type": "object"}}, "gallery": {"type": "object", "properties": {"count": {"type": "integer"}, "done": {"type": "integer"}, "failed": {"type": "integer"}}, "required": ["count", "done", "failed"]}}, "required": ["results", "gallery"]}}})"};

void post_search(Service& server, const CallPtr& call, const Reply& reply) {
  SearchBody body =
      take_body(server, *call, [&](const BodyLimits& limits) { return parse_search(call->body, limits); });
  call->wishes.take(body.wishes);
  Service& service = model_of(server, body.model);
  const std::shared_ptr<Gallery> gallery = gallery_of(service);
  const char* const what = body.image ? "image" : "text";
  std::vector<Input> query;
  query.push_back(body.image ? std::move(*body.image) : Input(std::move(body.text)));
  embed(service, call, reply, std::move(query), {}, names_in(what, 1),
        [reply, gallery, what, top = body.top](const Vectors& vectors) {
          reply(search_answer(*gallery, vectors.items.at(0), top, what));
        });
}

const ApiOperation kGalleryOperation{
    "search", "The gallery", nullptr,
    R"({"application/json": {"schema": {"type": "object", "properties": {"gallery": {"type": "object", "properties": {"count": {"type": "integer"}, "done": {"type": "integer"}, "failed": {"type": "integer"}}, "required": ["count", "done", "failed"]}, "pictures": {"type": "array", "items": {"type": "object"}}}, "required": ["gallery", "pictures"]}}})",
    R"([{"name": "offset", "in": "query", "required": false, "schema": {"type": "integer", "minimum": 0, "maximum": 1000000000}}, {"name": "limit", "in": "query", "required": false, "schema": {"type": "integer", "minimum": 0, "maximum": 1000000000}}])"};

void get_gallery(Service& service, const CallPtr& call, const Reply& reply) {
  const std::shared_ptr<Gallery> gallery = service.gallery();
  Answer answer;
  if (!gallery) {
    answer.body = "{\"gallery\":{\"count\":0,\"done\":0,\"failed\":0},\"pictures\":[]}";
    return reply(std::move(answer));
  }
  const std::size_t offset = number_of(*call, "offset", 0);
  const std::size_t limit = std::min<std::size_t>(number_of(*call, "limit", 100), 1000);
  answer.body = cat("{\"gallery\":", progress_of(*gallery), ",\"pictures\":[");
  for (std::size_t id = offset; id < gallery->size() && id - offset < limit; ++id) {
    answer.body += cat(id > offset ? "," : "", "{", picture_json(*gallery, id), "}");
  }
  answer.body += "]}";
  reply(std::move(answer));
}

const ApiOperation kPictureOperation{
    "search", "One of the gallery's pictures", nullptr,
    R"({"image/jpeg": {"schema": {"type": "string", "format": "binary"}}, "image/png": {"schema": {"type": "string", "format": "binary"}}, "image/webp": {"schema": {"type": "string", "format": "binary"}}, "image/gif": {"schema": {"type": "string", "format": "binary"}}, "image/bmp": {"schema": {"type": "string", "format": "binary"}}})",
    R"([{"name": "id", "in": "path", "required": true, "schema": {"type": "integer", "minimum": 0}}])"};

void get_picture(Service& service, const CallPtr& call, const Reply& reply) {
  const std::string_view text = std::string_view(call->path).substr(std::string_view("/gallery/").size());
  std::size_t id = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (error != std::errc() || end != text.data() + text.size()) {
    throw Error(Code::not_found, cat("pictures are numbered: /gallery/0, not ", call->path.substr(0, 200)));
  }
  Answer answer;
  const std::shared_ptr<Gallery> gallery = gallery_of(service);
  call->memory.add(gallery->file_size(id), "the picture");
  std::tie(answer.body, answer.content_type) = gallery->read(id);
  answer.headers.emplace_back("Cache-Control", "private, max-age=300");
  reply(std::move(answer));
}

}  // namespace tandem::server
