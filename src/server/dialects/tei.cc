// The dialect of text-embeddings-inference: POST /embed, /tokenize, GET /info's fields (status.cc has that route), and
// its timing headers. /rerank and /similarity with TEI's bodies are in rerank.cc and similarity.cc.
#include "server/dialects/tei.h"

#include <algorithm>
#include <cctype>
#include <cmath>

#include "base/clock.h"
#include "base/strings.h"
#include "server/dialects/bodies.h"
#include "server/read_input.h"
#include "server/routes.h"

namespace tandem::server {

TeiEmbedBody parse_tei_embed(const std::string& json, const BodyLimits& limits) {
  TeiEmbedBody body;
  bool given = false;
  Document(json, limits).for_each([&](std::string_view key, Value value) {
    if (key == "inputs") {
      List list;
      given = true;
      if (!value.get(list) && list.size() == 0) return;  // TEI has an answer of its own for it
      body.inputs = read_inputs(value, "inputs", Strings::either, limits);
    } else if (key == "normalize") {
      body.normalize = bool_of(value, "normalize");
    } else if (key == "truncate") {
      body.refuse_long = !bool_of(value, "truncate");
    } else if (key == "dimensions") {
      body.dimensions = static_cast<int>(integer_of(value, "dimensions", 1, 1 << 20));
    } else if (key == "truncation_direction") {
      std::string side(string_of(value, "\"truncation_direction\"", "truncation_direction"));
      std::transform(side.begin(), side.end(), side.begin(), [](unsigned char c) { return std::tolower(c); });
      if (side != "right") wrong("truncation_direction", "\"truncation_direction\": texts are cut on the right only");
    } else {
      take_wish(key, value, body.wishes);
    }
  });
  if (!given) wrong("inputs", "\"inputs\" is missing: a text, or a list of texts");
  require_inputs(body.inputs, "inputs");
  return body;
}

TeiTokenizeBody parse_tei_tokenize(const std::string& json, const BodyLimits& limits) {
  TeiTokenizeBody body;
  bool given = false;
  Document(json, limits).for_each([&](std::string_view key, Value value) {
    if (key == "inputs") {
      given = true;
      List list;
      if (value.get(list)) {
        body.inputs.push_back(checked_text(string_of(value, "inputs", "inputs"), "inputs", "inputs", limits));
        return;
      }
      check_count(list.size(), "inputs", "inputs", limits);
      for (Value item : list) {
        const std::string what = cat("inputs[", body.inputs.size(), "]");
        body.inputs.push_back(checked_text(string_of(item, what, "inputs"), what, "inputs", limits));
      }
    } else if (key == "add_special_tokens") {
      body.special = bool_of(value, "add_special_tokens");
    }
  });
  if (!given) wrong("inputs", "\"inputs\" is missing: a text, or a list of texts");
  return body;
}

std::size_t characters_of(const std::vector<Input>& inputs) noexcept {
  std::size_t count = 0;
  for (const Input& input : inputs) {
    const auto* text = std::get_if<std::string>(&input);
    if (!text) continue;
    count += static_cast<std::size_t>(std::count_if(
        text->begin(), text->end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
  }
  return count;
}

namespace {

Answer empty_answer() {
  Answer answer;
  answer.status = 400;
  answer.body = "{\"error\":\"inputs must not be empty\",\"error_type\":\"Empty\"}";
  return answer;
}

std::string milliseconds(double seconds) {
  return std::to_string(static_cast<long>(std::lround(seconds * 1000)));
}

}  // namespace

void add_tei_headers(Answer& answer, const Vectors& vectors, const TeiClock& clock, std::size_t characters,
                     const EngineInfo& info) {
  const std::string total = milliseconds(seconds_since(clock.begin));
  auto& to = answer.headers;
  to.emplace_back("x-compute-type", info.device.starts_with("cuda") ? "gpu+optimized" : "cpu+optimized");
  to.emplace_back("x-compute-time", total);
  to.emplace_back("x-compute-characters", std::to_string(characters));
  to.emplace_back("x-compute-tokens", std::to_string(vectors.tokens()));
  to.emplace_back("x-total-time", total);
  to.emplace_back("x-tokenization-time", milliseconds(vectors.prepare_seconds));
  to.emplace_back("x-queue-time", milliseconds(vectors.queue_seconds));
  to.emplace_back("x-inference-time", milliseconds(vectors.compute_seconds));
}

const ApiOperation kTeiEmbedOperation{
    "TEI", "Texts to vectors",
    R"({"application/json": {"schema": {"type": "object", "properties": {"inputs": {"$ref": "#/components/schemas/Inputs"}, "normalize": {"type": "boolean"}, "truncate": {"type": "boolean"}, "dimensions": {"type": "integer", "minimum": 1, "maximum": "$WIDTH"}, "truncation_direction": {"type": "null"}}, "required": ["inputs"]}}})",
    R"({"application/json": {"schema": {"$ref": "#/components/schemas/Vectors"}}})"};

void post_tei_embed(Service& service, const CallPtr& call, const Reply& reply) {
  const TeiClock clock;
  TeiEmbedBody body =
      take_body(service, *call, [&](const BodyLimits& limits) { return parse_tei_embed(call->body, limits); });
  if (body.inputs.empty()) return reply(empty_answer());
  call->wishes.take(body.wishes);
  const auto full = static_cast<std::size_t>(service.info().embed_dim);
  const auto dimensions = static_cast<std::size_t>(body.dimensions);
  if (dimensions > full) {
    throw FieldError(Code::invalid_argument,
                     cat("\"dimensions\" is ", dimensions, "; this model's vectors have ", full), "dimensions");
  }
  call->memory.add(json_bytes(body.inputs.size(), dimensions == 0 ? full : dimensions), "the answer");
  EmbedOptions options;
  options.normalize = body.normalize;
  const std::size_t characters = characters_of(body.inputs);
  const NameOf names = names_in("inputs", body.inputs.size());
  embed(
      service, call, reply, std::move(body.inputs), options, names,
      [&service, reply, clock, characters, dimensions, refuse = body.refuse_long](Vectors vectors) {
        require_all(vectors);
        if (refuse && vectors.truncated()) {
          throw FieldError(Code::invalid_argument,
                           cat("inputs: a text has more than ", service.info().context_length,
                               " tokens: shorten it, or leave \"truncate\" out"),
                           "inputs");
        }
        for (Embedding& item : vectors.items) shorten(item.values, dimensions);
        Answer answer;
        append_vectors(vectors, 0, vectors.items.size(), answer.body);
        add_tei_headers(answer, vectors, clock, characters, service.info());
        reply(std::move(answer));
      },
      true);
}

namespace {

/// Follows a text while its tokens come by, in order to say where each of them stands. What cleaning changed is not
/// found there, and has no place.
class Follower {
 public:
  explicit Follower(std::string_view text) : text_(text) {}

  /// Characters [start, stop) of the token, or false.
  bool find(std::string_view token, std::size_t& start, std::size_t& stop, std::string_view& found) {
    std::size_t at = at_, character = character_;
    while (at < text_.size() && std::isspace(static_cast<unsigned char>(text_[at]))) ++at, ++character;
    if (token.empty() || text_.size() - at < token.size()) return false;
    for (std::size_t i = 0; i < token.size(); ++i) {
      if (std::tolower(static_cast<unsigned char>(text_[at + i])) != static_cast<unsigned char>(token[i])) return false;
    }
    start = stop = character;
    for (std::size_t i = 0; i < token.size(); ++i) {
      stop += (static_cast<unsigned char>(text_[at + i]) & 0xc0) != 0x80;
    }
    found = text_.substr(at, token.size());
    at_ = at + token.size();
    character_ = stop;
    return true;
  }

 private:
  std::string_view text_;
  std::size_t at_ = 0, character_ = 0;
};

void append_tokens(std::string_view text, const std::vector<Token>& tokens, bool special, std::string& out) {
  Follower follower(text);
  out += '[';
  bool first = true;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const Token& token = tokens[i];
    if (token.special && !special) continue;
    std::size_t start = 0, stop = 0;
    std::string_view words = token.text;
    const bool found = !token.special && follower.find(token.text, start, stop, words);
    out += cat(first ? "" : ",", "{\"id\":", token.id, ",\"text\":", json_string(words),
               ",\"special\":", token.special ? "true" : "false");
    out += found ? cat(",\"start\":", start, ",\"stop\":", stop, "}") : std::string(",\"start\":null,\"stop\":null}");
    first = false;
  }
  out += ']';
}

}  // namespace

const ApiOperation kTeiTokenizeOperation{
    "TEI",
    "Texts to tokens",
    R"({"application/json": {"schema": {"type": "object", "properties": {"inputs": {"anyOf": [{"$ref": "#/components/schemas/Text"}, {"type": "array", "items": {"$ref": "#/components/schemas/Text"}, "minItems": 1}]}, "add_special_tokens": {"type": "boolean"}}, "required": ["inputs"]}}})",
    R"({"application/json": {"schema": {"type": "array", "items": {"type": "array", "items": {"type": "object", "properties": {"id": {"type": "integer"}, "text": {"type": "string"}, "special": {"type": "boolean"}, "start": {"type": ["integer", "null"]}, "stop": {"type": ["integer", "null"]}}, "required": ["id", "text", "special", "start", "stop"]}}}}})",
    nullptr,
    200,
    false,
    false};

void post_tei_tokenize(Service& service, const CallPtr& call, const Reply& reply) {
  const TeiClock clock;
  const TeiTokenizeBody body =
      take_body(service, *call, [&](const BodyLimits& limits) { return parse_tei_tokenize(call->body, limits); });
  if (body.inputs.empty()) return reply(empty_answer());
  constexpr std::size_t kToken = 256;  // a token's text and fields, at the most
  const auto longest = static_cast<std::size_t>(service.info().context_length);
  call->memory.add(body.inputs.size() * longest * kToken, "the answer");
  Answer answer;
  answer.body = "[";
  Vectors counted;
  std::vector<Input> texts;
  for (std::size_t i = 0; i < body.inputs.size(); ++i) {
    if (i > 0) answer.body += ',';
    const std::vector<Token> tokens = service.tokenize(body.inputs[i]);
    counted.items.emplace_back().tokens = static_cast<int>(tokens.size());
    append_tokens(body.inputs[i], tokens, body.special, answer.body);
    texts.emplace_back(body.inputs[i]);
  }
  answer.body += ']';
  counted.prepare_seconds = seconds_since(clock.begin);
  add_tei_headers(answer, counted, clock, characters_of(texts), service.info());
  reply(std::move(answer));
}

}  // namespace tandem::server
