// POST /classify: zero-shot labels of pictures; GET /labels: the labels used where none are named.
#include <algorithm>

#include "base/strings.h"
#include "server/embed.h"
#include "server/ids.h"
#include "server/models.h"
#include "server/routes.h"
#include "tandem/zero_shot.h"

namespace tandem::server {
namespace {

constexpr std::size_t kDefaultTop = 10;  // of the default labels; a client that names labels gets all of them
constexpr std::size_t kMaxAnswerBytes = std::size_t{256} << 20;

struct Work {
  Vectors images;                          ///< of the request; those that were refused before it have their error only
  bool plain = false, raw_scores = false;  ///< infinity's shape
  std::shared_ptr<const LabelSet> labels;
  std::size_t top = 0;
  double logit_scale = 1;
  const std::vector<std::string>* signs = nullptr;  // of the default labels
};

void append_scores(const std::vector<float>& image, const Work& work, std::string& out) {
  out += "{\"labels\":[";
  bool first = true;
  for (const LabelScore& score : score_labels(image, *work.labels, work.logit_scale, work.top)) {
    out += cat(first ? "" : ",", "{\"label\":", json_string(work.labels->labels[score.label]), ",\"probability\":");
    first = false;
    append_number(score.probability, out);
    out += ",\"logit\":";
    append_number(score.logit, out);
    if (work.signs && score.label < work.signs->size() && !(*work.signs)[score.label].empty()) {
      out += cat(",\"emoji\":", json_string((*work.signs)[score.label]));
    }
    out += '}';
  }
  out += "]}";
}

/// {"error":{"code","message"}}: the shape that the command line gives to an item that failed.
void append_error(const ItemError& error, std::string& out) {
  out += cat("{\"error\":{\"code\":", json_string(code_name(error.code)), ",\"message\":", json_string(error.message),
             "}}");
}

/// infinity's shape: [{"score","label"}] for each input, best first.
Answer plain_answer(const Work& work, const std::string& model) {
  require_all(work.images);
  Answer answer;
  std::string& out = answer.body;
  out = "{\"object\":\"classify\",\"data\":[";
  for (std::size_t i = 0; i < work.images.items.size(); ++i) {
    out += i > 0 ? ",[" : "[";
    bool first = true;
    for (const LabelScore& score :
         score_labels(work.images.items[i].values, *work.labels, work.logit_scale, work.top)) {
      out += cat(first ? "" : ",", "{\"score\":");
      append_number(work.raw_scores ? score.logit : score.probability, out);
      out += cat(",\"label\":", json_string(work.labels->labels[score.label]), "}");
      first = false;
    }
    out += ']';
  }
  const long tokens = work.images.tokens();
  out += cat("],\"model\":", json_string(model), ",\"usage\":{\"prompt_tokens\":", tokens, ",\"total_tokens\":", tokens,
             "}", id_and_date("infinity"), "}");
  return answer;
}

/// Each picture has its scores or its own error. Where none could be classified the request has failed as a whole, with
/// the status of its first picture's error.
Answer classify_answer(const Work& work, const std::string& model) {
  if (work.plain) return plain_answer(work, model);
  const std::vector<Embedding>& images = work.images.items;
  if (std::all_of(images.begin(), images.end(), [](const Embedding& image) { return image.error; })) {
    const ItemError& first = *images.at(0).error;
    throw FieldError(first.code, first.message, first.message.starts_with("images") ? "images" : "image");
  }
  Answer answer;
  answer.body = "{\"results\":[";
  for (std::size_t i = 0; i < images.size(); ++i) {
    if (i > 0) answer.body += ',';
    if (images[i].error) {
      append_error(*images[i].error, answer.body);
    } else {
      append_scores(images[i].values, work, answer.body);
    }
  }
  answer.body += cat("],\"model\":", json_string(model), "}");
  return answer;
}

/// Every picture's answer repeats its labels, so that a small request could ask for gigabytes.
std::size_t answer_bytes(std::size_t pictures, const std::vector<std::string>& labels, std::size_t top) {
  constexpr std::size_t kFields = 96;  // of one label, beside its name
  std::size_t longest = 0, all = 0;
  for (const std::string& label : labels) {
    const std::size_t bytes = kFields + json_size(label);
    longest = std::max(longest, bytes);
    all += bytes;
  }
  const std::size_t shown = top == 0 ? labels.size() : std::min(top, labels.size());
  const std::size_t each = std::min(all, shown * longest);
  if (each > 0 && pictures > kMaxAnswerBytes / each) {
    throw FieldError(
        Code::too_large,
        cat(pictures * shown, " scores (", pictures, " pictures, ", labels.size(), " labels) may take more than ",
            kMaxAnswerBytes, " bytes to answer: give a smaller \"top\", or fewer pictures"),
        "top");
  }
  return pictures * each;
}

/// By the body's type: a form, a picture, else JSON.
ClassifyBody parse(const Call& call, const BodyLimits& limits) {
  if (call.content_type.starts_with("multipart/form-data"))
    return parse_classify_form(call.body, call.content_type, limits);
  if (call.content_type.starts_with("image/") || call.content_type.starts_with("application/octet-stream")) {
    return parse_classify_picture(call.body, call.query, limits);
  }
  return parse_classify(call.body, limits);
}

}  // namespace

const ApiOperation kClassifyOperation{
    "labels", "Zero-shot labels of pictures; with \"input\" infinity's shape",
    R"({"application/json": {"schema": {"anyOf": [{"type": "object", "properties": {"image": {"$ref": "#/components/schemas/Picture"}, "labels": {"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": {"type": "string"}}]}, "templates": {"anyOf": [{"type": "string", "pattern": "[{][}]"}, {"type": "array", "minItems": 1, "items": {"type": "string", "pattern": "[{][}]"}}]}, "top": {"type": "integer", "minimum": 0, "maximum": 16777216}, "model": {"$ref": "#/components/schemas/Model"}, "images": {"type": "null"}, "input": {"type": "null"}, "template": {"type": "null"}}, "required": ["image", "$LABELS"]}, {"type": "object", "properties": {"images": {"type": "array", "items": {"$ref": "#/components/schemas/Picture"}, "minItems": 1}, "labels": {"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": {"type": "string"}}]}, "templates": {"anyOf": [{"type": "string", "pattern": "[{][}]"}, {"type": "array", "minItems": 1, "items": {"type": "string", "pattern": "[{][}]"}}]}, "top": {"type": "integer", "minimum": 0, "maximum": 16777216}, "model": {"$ref": "#/components/schemas/Model"}, "image": {"type": "null"}, "input": {"type": "null"}, "template": {"type": "null"}}, "required": ["images", "$LABELS"]}, {"type": "object", "properties": {"input": {"anyOf": [{"$ref": "#/components/schemas/Comparable"}, {"$ref": "#/components/schemas/Comparables"}, {"$ref": "#/components/schemas/TokenIds"}, {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/TokenIds"}}]}, "raw_scores": {"type": "boolean"}, "labels": {"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": {"type": "string"}}]}, "templates": {"anyOf": [{"type": "string", "pattern": "[{][}]"}, {"type": "array", "minItems": 1, "items": {"type": "string", "pattern": "[{][}]"}}]}, "top": {"type": "integer", "minimum": 0, "maximum": 16777216}, "model": {"$ref": "#/components/schemas/Model"}, "image": {"type": "null"}, "images": {"type": "null"}, "template": {"type": "null"}}, "required": ["input", "$LABELS"]}]}}})",
    R"({"application/json": {"schema": {"anyOf": [{"type": "object", "properties": {"results": {"type": "array", "items": {"anyOf": [{"type": "object", "properties": {"labels": {"type": "array", "items": {"type": "object", "properties": {"label": {"type": "string"}, "probability": {"type": "number"}, "logit": {"type": "number"}, "emoji": {"type": "string"}}, "required": ["label", "probability", "logit"]}}}, "required": ["labels"]}, {"type": "object", "properties": {"error": {"$ref": "#/components/schemas/ItemError"}}, "required": ["error"]}]}}, "model": {"type": "string"}}, "required": ["results", "model"]}, {"type": "object", "properties": {"object": {"const": "classify"}, "data": {"type": "array", "items": {"type": "array", "items": {"type": "object", "properties": {"score": {"type": "number"}, "label": {"type": "string"}}, "required": ["score", "label"]}}}, "model": {"type": "string"}, "usage": {"$ref": "#/components/schemas/Usage"}, "id": {"type": "string"}, "created": {"type": "integer"}}, "required": ["object", "data", "model", "usage"]}]}}})"};

void post_classify(Service& server, const CallPtr& call, const Reply& reply) {
  ClassifyBody body = take_body(server, *call, [&](const BodyLimits& limits) { return parse(*call, limits); });
  call->wishes.take(body.wishes);
  Service& service = model_of(server, body.model);
  const Defaults& defaults = service.defaults();
  const bool named = body.labels.has_value();
  if (!named && defaults.labels.empty()) {
    throw FieldError(Code::invalid_argument, "\"labels\" is missing: this model has no labels of its own", "labels");
  }
  Work work;
  work.logit_scale = service.info().logit_scale;
  work.top = body.top.value_or(named ? 0 : kDefaultTop);
  if (!named) work.signs = &defaults.signs;
  call->memory.add(answer_bytes(body.images.size(), named ? *body.labels : defaults.labels, work.top), "the answer");
  const NameOf names = body.plain ? names_in("input", body.images.size())
                                  : names_in(body.images.size() == 1 ? "image" : "images", body.images.size());
  work.plain = body.plain;
  work.raw_scores = body.raw_scores;
  if (std::all_of(body.images.begin(), body.images.end(),
                  [](const Input& image) { return std::holds_alternative<ItemError>(image); })) {
    for (Input& image : body.images) work.images.items.emplace_back().error = std::get<ItemError>(std::move(image));
    return reply(classify_answer(work, service.model_name()));
  }

  // Labels first: known ones come back at once, and new ones would only wait behind the pictures.
  const auto pictures = [&service, call, reply, images = std::move(body.images), names,
                         work](const LabelResult& labels) mutable {
    try {
      if (const auto* error = std::get_if<ItemError>(&labels)) {
        if (error->code == Code::cancelled) service.require_ready();  // withdrawn by a server that stops: 503
        throw FieldError(error->code, error->message, "labels");
      }
      work.labels = std::get<std::shared_ptr<const LabelSet>>(labels);
      embed(service, call, reply, std::move(images), {}, names, [&service, reply, work](Vectors vectors) mutable {
        work.images = std::move(vectors);
        reply(classify_answer(work, service.model_name()));
      });
    } catch (...) {
      reply(answer_to_current_exception());
    }
  };
  service.labels().get(named ? *body.labels : defaults.labels, body.templates.value_or(defaults.templates),
                       call->cancel, pictures);
}

const ApiOperation kLabelsOperation{
    "labels", "The labels used where a request names none", nullptr,
    R"({"application/json": {"schema": {"type": "object", "properties": {"labels": {"type": "array", "items": {"type": "string"}}, "emoji": {"type": "array", "items": {"type": "string"}}, "templates": {"type": "array", "items": {"type": "string"}}}, "required": ["labels", "emoji", "templates"]}}})"};

void get_labels(Service& service, const CallPtr&, const Reply& reply) {
  if (!service.loaded()) service.require_ready();
  const Defaults& defaults = service.defaults();
  Answer answer;
  const auto append_list = [&](const char* name, const std::vector<std::string>& list) {
    answer.body += cat("\"", name, "\":[");
    for (std::size_t i = 0; i < list.size(); ++i) {
      if (i > 0) answer.body += ',';
      answer.body += json_string(list[i]);
    }
    answer.body += ']';
  };
  answer.body += '{';
  append_list("labels", defaults.labels);
  answer.body += ',';
  append_list("emoji", defaults.signs);
  answer.body += ',';
  append_list("templates", defaults.templates);
  answer.body += '}';
  reply(std::move(answer));
}

}  // namespace tandem::server
