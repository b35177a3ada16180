// POST /rerank, /reranking, /v1/rerank, /v2/rerank: the shape of Cohere, Jina, infinity and llama.cpp, and with "texts"
// TEI's. Query and documents may be texts or pictures; scores are cosines.
#include <algorithm>
#include <numeric>

#include "base/strings.h"
#include "server/dialects/bodies.h"
#include "server/dialects/tei.h"
#include "server/ids.h"
#include "server/models.h"
#include "server/read_input.h"
#include "server/routes.h"
#include "server/vectors.h"

namespace tandem::server {

RerankBody parse_rerank(const std::string& json, const BodyLimits& limits) {
  RerankBody body;
  const Document document(json, limits);
  std::optional<Input> query;
  std::vector<Input> items;
  List list;
  std::string name;
  bool echo = false;
  document.for_each([&](std::string_view key, Value value) {
    if (key == "query") {
      query = read_input(value, "query", Strings::either, limits);
    } else if (key == "documents" || key == "texts") {
      if (!name.empty()) wrong("documents", "give either \"documents\" or \"texts\"");
      name = key;
      if (value.get(list)) wrong(name, cat("\"", name, "\" must be a list, not ", kind_of(value)));
      if (list.size() > 0 && (*list.begin()).is_number()) wrong(name, cat(name, "[0] must be a text or a picture"));
      items = read_inputs(value, name, Strings::either, limits);
    } else if (key == "model") {
      body.model = string_of(value, "\"model\"", "model");
    } else if (key == "top_n") {
      body.top_n = static_cast<std::size_t>(integer_of(value, "top_n", 1, 1 << 30));
    } else if (key == "return_documents" || key == "return_text") {
      echo = bool_of(value, std::string(key)) || echo;
    } else if (key == "raw_scores") {
      body.raw_scores = bool_of(value, "raw_scores");
    } else if (key != "priority" || !value.is_number()) {  // Cohere's is a number of its own scale
      take_wish(key, value, body.wishes);
    }
  });
  if (!query) wrong("query", "\"query\" is missing: the text or the picture that documents are compared with");
  if (name.empty()) wrong("documents", "\"documents\" is missing: a list of texts or pictures");
  require_inputs(items, name);
  body.tei = name == "texts";
  if (echo) {
    for (Value item : list) body.echoes.push_back(simdjson::minify(item));
  }
  body.items.reserve(items.size() + 1);
  body.items.push_back(std::move(*query));
  for (Input& item : items) body.items.push_back(std::move(item));
  return body;
}

namespace {

struct Ranking {
  std::vector<std::size_t> order;  ///< documents, best first
  std::vector<float> scores;       ///< by document
};

Ranking rank(const Vectors& vectors, double scale, std::optional<std::size_t> top) {
  Ranking out;
  const std::vector<float>& query = vectors.items.at(0).values;
  for (std::size_t i = 1; i < vectors.items.size(); ++i) {
    out.scores.push_back(static_cast<float>(scale * cosine(query, vectors.items[i].values)));
  }
  out.order.resize(out.scores.size());
  std::iota(out.order.begin(), out.order.end(), std::size_t{0});
  std::stable_sort(out.order.begin(), out.order.end(),
                   [&](std::size_t a, std::size_t b) { return out.scores[a] > out.scores[b]; });
  out.order.resize(std::min(top.value_or(out.order.size()), out.order.size()));
  return out;
}

/// A document as it is repeated: as it was given, and for Cohere's and Jina's clients a bare text as {"text": …}.
std::string document_of(const std::string& echo, bool object) {
  return object && echo.starts_with('"') ? cat("{\"text\":", echo, "}") : echo;
}

std::string results_of(const Ranking& ranking, const std::vector<std::string>& echoes, bool tei, bool objects) {
  std::string out = "[";
  for (const std::size_t i : ranking.order) {
    out += cat(out.size() > 1 ? "," : "", "{\"index\":", i, tei ? ",\"score\":" : ",\"relevance_score\":");
    append_number(ranking.scores[i], out);
    if (!echoes.empty()) out += cat(tei ? ",\"text\":" : ",\"document\":", document_of(echoes.at(i), objects));
    out += '}';
  }
  return out += ']';
}

}  // namespace

const ApiOperation kRerankOperation{
    "rerank",
    "Documents by their likeness to a query, texts or pictures (Cohere, Jina, infinity; with \"texts\" TEI)",
    R"({"application/json": {"schema": {"anyOf": [{"type": "object", "properties": {"query": {"$ref": "#/components/schemas/Comparable"}, "model": {"$ref": "#/components/schemas/Model"}, "raw_scores": {"type": "boolean"}, "priority": {"anyOf": [{"type": "string", "enum": ["high", "normal"]}, {"type": "number"}]}, "return_text": {"type": "boolean"}, "return_documents": {"type": "boolean"}, "top_n": {"type": "integer", "minimum": 1, "maximum": 1073741824}, "documents": {"$ref": "#/components/schemas/Comparables"}, "texts": {"type": "null"}}, "required": ["query", "documents"]}, {"type": "object", "properties": {"query": {"$ref": "#/components/schemas/Comparable"}, "model": {"$ref": "#/components/schemas/Model"}, "raw_scores": {"type": "boolean"}, "priority": {"anyOf": [{"type": "string", "enum": ["high", "normal"]}, {"type": "number"}]}, "return_text": {"type": "boolean"}, "return_documents": {"type": "boolean"}, "top_n": {"type": "integer", "minimum": 1, "maximum": 1073741824}, "texts": {"$ref": "#/components/schemas/Comparables"}, "documents": {"type": "null"}}, "required": ["query", "texts"]}]}}})",
    R"({"application/json": {"schema": {"anyOf": [{"type": "object", "properties": {"object": {"const": "rerank"}, "results": {"type": "array", "items": {"type": "object", "properties": {"index": {"type": "integer"}, "relevance_score": {"type": "number"}, "document": {}}, "required": ["index", "relevance_score"]}}, "model": {"type": "string"}, "usage": {"$ref": "#/components/schemas/Usage"}, "id": {"type": "string"}, "created": {"type": "integer"}}, "required": ["object", "results", "model", "usage", "id", "created"]}, {"type": "array", "items": {"type": "object", "properties": {"index": {"type": "integer"}, "score": {"type": "number"}, "text": {}}, "required": ["index", "score"]}}]}}})",
    nullptr,
    200,
    true};

namespace {

void answer_rerank(Service& server, const CallPtr& call, const Reply& reply) {
  const TeiClock clock;
  RerankBody body =
      take_body(server, *call, [&](const BodyLimits& limits) { return parse_rerank(call->body, limits); });
  call->wishes.take(body.wishes);
  Service& service = model_of(server, body.model);
  std::size_t bytes = 128 * (body.items.size() + 4);
  for (const std::string& echo : body.echoes) bytes += 2 * (echo.size() + 16);
  call->memory.add(bytes, "the answer");
  const double scale = body.raw_scores ? service.info().logit_scale : 1;
  const NameOf names = names_in({{"query", 1}, {body.tei ? "texts" : "documents", body.items.size() - 1}});
  const std::size_t characters = characters_of(body.items);
  // Cohere and Jina number their paths, infinity and llama.cpp's other names have no number.
  const int cohere = call->path == "/v1/rerank" ? 1 : call->path == "/v2/rerank" ? 2 : 0;
  const Reply way = body.tei ? in_shape(reply, Errors::tei) : reply;
  embed(
      service, call, way, std::move(body.items), {}, names,
      [&service, way, clock, characters, scale, echoes = std::move(body.echoes), top = body.top_n, tei = body.tei,
       cohere](const Vectors& vectors) {
        require_all(vectors);
        Answer answer;
        const std::string results = results_of(rank(vectors, scale, top), echoes, tei, cohere > 0);
        const long tokens = vectors.tokens();
        if (tei) {
          answer.body = results;
          add_tei_headers(answer, vectors, clock, characters, service.info());
        } else {
          answer.body =
              cat("{\"object\":\"rerank\",\"results\":", results, ",\"model\":", json_string(service.model_name()),
                  ",\"usage\":{\"prompt_tokens\":", tokens, ",\"total_tokens\":", tokens, "}");
          if (cohere > 0) {
            answer.body +=
                cat(",\"meta\":{\"api_version\":{\"version\":\"", cohere, "\"},\"billed_units\":{\"search_units\":1}}");
          }
          answer.body += id_and_date("rerank") + "}";
        }
        way(std::move(answer));
      },
      true);
}

}  // namespace

void post_rerank(Service& server, const CallPtr& call, const Reply& reply) {
  // Whose client reads what is wrong with a body, before it is parsed.
  const std::string& body = call->body;
  const bool tei = body.find("\"texts\"") != std::string::npos && body.find("\"documents\"") == std::string::npos;
  const Reply way = in_shape(reply, tei ? Errors::tei : Errors::openai);
  try {
    answer_rerank(server, call, way);
  } catch (...) {
    way(answer_to_current_exception());
  }
}

}  // namespace tandem::server
