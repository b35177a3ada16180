// POST /similarity: {"a", "b"} (or "images" and "texts") to a table of cosines; TEI's {"inputs": {"source_sentence",
// "sentences"}} to a list.
#include "base/strings.h"
#include "server/dialects/bodies.h"
#include "server/dialects/tei.h"
#include "server/models.h"
#include "server/read_input.h"
#include "server/routes.h"
#include "server/vectors.h"

namespace tandem::server {
namespace {

void take_tei(Value value, SimilarityBody& body, const BodyLimits& limits) {
  Object inputs;
  Value source, sentences;
  List list;
  if (value.get(inputs)) wrong("inputs", cat("\"inputs\" must be an object, not ", kind_of(value)));
  if (!field_of(inputs, "source_sentence", source)) wrong("inputs", "inputs has no \"source_sentence\"");
  if (!field_of(inputs, "sentences", sentences) || sentences.get(list))
    wrong("inputs", "inputs has no list \"sentences\"");
  if (list.size() > 0 && (*list.begin()).is_number()) wrong("inputs", "inputs.sentences[0] must be a text");
  body.a.clear();
  body.a.push_back(read_input(source, "inputs.source_sentence", Strings::either, limits));
  body.b = read_inputs(sentences, "inputs.sentences", Strings::either, limits);
  body.tei = true;
}

}  // namespace

SimilarityBody parse_similarity(const std::string& json, const BodyLimits& limits) {
  SimilarityBody body;
  bool others = false;
  const auto take = [&](std::vector<Input>& to, const std::string& name, Value value, Strings strings) {
    others = true;
    if (!to.empty()) wrong(name, cat("\"", name, "\": this side is given twice"));
    to = read_inputs(value, name, strings, limits);
    require_inputs(to, name);
  };
  Document(json, limits).for_each([&](std::string_view key, Value value) {
    if (key == "a" || key == "image" || key == "images") {
      take(body.a, std::string(key), value, key == "a" ? Strings::either : Strings::images);
    } else if (key == "b" || key == "text" || key == "texts") {
      take(body.b, std::string(key), value, key == "b" ? Strings::either : Strings::texts);
    } else if (key == "inputs") {
      take_tei(value, body, limits);
    } else if (key == "model") {
      body.model = string_of(value, "\"model\"", "model");
    } else {
      take_wish(key, value, body.wishes);
    }
  });
  if (body.tei && (body.a.size() != 1 || others)) wrong("inputs", "give either \"inputs\" or \"a\" and \"b\"");
  if (body.a.empty() || body.b.empty()) {
    wrong(body.a.empty() ? "a" : "b", "give \"a\" and \"b\", each a text, a picture or a list of them");
  }
  require_inputs(body.b, "inputs");
  const std::size_t most = static_cast<std::size_t>(limits.max_items) * 64;
  if (body.a.size() > most / body.b.size()) {
    throw FieldError(Code::too_large,
                     cat(body.a.size(), " x ", body.b.size(), " pairs; the limit is ", most, " in one request"), "a");
  }
  return body;
}

const ApiOperation kSimilarityOperation{
    "vectors",
    "Cosines of everything with everything; with \"inputs\" TEI's shape",
    R"({"application/json": {"schema": {"anyOf": [{"type": "object", "properties": {"a": {"anyOf": [{"$ref": "#/components/schemas/Comparable"}, {"$ref": "#/components/schemas/Comparables"}]}, "b": {"anyOf": [{"$ref": "#/components/schemas/Comparable"}, {"$ref": "#/components/schemas/Comparables"}]}, "model": {"$ref": "#/components/schemas/Model"}, "image": {"type": "null"}, "images": {"type": "null"}, "text": {"type": "null"}, "texts": {"type": "null"}, "inputs": {"type": "null"}}, "required": ["a", "b"]}, {"type": "object", "properties": {"inputs": {"type": "object", "properties": {"source_sentence": {"$ref": "#/components/schemas/Text"}, "sentences": {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/Text"}}}, "required": ["source_sentence", "sentences"]}, "a": {"type": "null"}, "b": {"type": "null"}, "image": {"type": "null"}, "images": {"type": "null"}, "text": {"type": "null"}, "texts": {"type": "null"}}, "required": ["inputs"]}]}}})",
    R"({"application/json": {"schema": {"anyOf": [{"type": "object", "properties": {"similarity": {"$ref": "#/components/schemas/Vectors"}, "model": {"type": "string"}}, "required": ["similarity", "model"]}, {"$ref": "#/components/schemas/Vector"}]}}})",
    nullptr,
    200,
    true};

namespace {

void answer_similarity(Service& server, const CallPtr& call, const Reply& reply) {
  const TeiClock clock;
  SimilarityBody body =
      take_body(server, *call, [&](const BodyLimits& limits) { return parse_similarity(call->body, limits); });
  call->wishes.take(body.wishes);
  Service& service = model_of(server, body.model);
  const std::size_t rows = body.a.size(), columns = body.b.size();
  call->memory.add(128 + rows * (columns * 16 + 2), "the answer");
  const NameOf names =
      body.tei ? names_in({{"inputs", 1}, {"inputs", columns}}) : names_in({{"a", rows}, {"b", columns}});
  std::vector<Input> inputs = std::move(body.a);
  for (Input& input : body.b) inputs.push_back(std::move(input));
  const std::size_t characters = characters_of(inputs);
  const Reply way = body.tei ? in_shape(reply, Errors::tei) : reply;
  embed(
      service, call, way, std::move(inputs), {}, names,
      [&service, way, clock, characters, rows, columns, tei = body.tei](const Vectors& vectors) {
        require_all(vectors);
        std::string table;
        for (std::size_t i = 0; i < rows; ++i) {
          table += i > 0 ? ",[" : "[";
          for (std::size_t j = 0; j < columns; ++j) {
            if (j > 0) table += ',';
            append_number(cosine(vectors.items[i].values, vectors.items[rows + j].values), table);
          }
          table += ']';
        }
        Answer answer;
        answer.body =
            tei ? table : cat("{\"similarity\":[", table, "],\"model\":", json_string(service.model_name()), "}");
        if (tei) add_tei_headers(answer, vectors, clock, characters, service.info());
        way(std::move(answer));
      },
      true);
}

}  // namespace

void post_similarity(Service& server, const CallPtr& call, const Reply& reply) {
  // Whose client reads what is wrong with a body, before it is parsed.
  const Reply way = in_shape(reply, call->body.find("\"inputs\"") != std::string::npos ? Errors::tei : Errors::openai);
  try {
    answer_similarity(server, call, way);
  } catch (...) {
    way(answer_to_current_exception());
  }
}

}  // namespace tandem::server
