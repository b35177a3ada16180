#include "server/body.h"

#include <simdjson.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <new>
#include <set>
#include <utility>

#include "base/strings.h"
#include "server/base64.h"
#include "server/message.h"
#include "server/multipart.h"
#include "tandem/error.h"

namespace tandem::server {
namespace {

using simdjson::dom::array;
using simdjson::dom::element;
using simdjson::dom::element_type;
using simdjson::dom::object;

const char* kind_of(element value) {
  switch (value.type()) {
    case element_type::ARRAY: return "a list";
    case element_type::OBJECT: return "an object";
    case element_type::INT64:
    case element_type::UINT64:
    case element_type::DOUBLE: return "a number";
    case element_type::STRING: return "a string";
    case element_type::BOOL: return "true or false";
    case element_type::NULL_VALUE: return "null";
  }
  return "something else";
}

[[noreturn]] void wrong(const std::string& param, const std::string& message) {
  throw FieldError(Code::invalid_argument, message, param);
}

std::string_view string_of(element value, const std::string& what, const std::string& param) {
  std::string_view text;
  if (value.get(text)) wrong(param, cat(what, " must be a string, not ", kind_of(value)));
  return text;
}

std::string checked_text(std::string_view text, const std::string& what, const std::string& param,
                         const BodyLimits& limits) {
  if (text.size() > limits.max_text_bytes) {
    throw FieldError(Code::too_large,
                     cat(what, " has ", text.size(), " bytes; the limit is ", limits.max_text_bytes, " bytes a text"),
                     param);
  }
  return std::string(text);
}

void check_count(std::size_t count, const char* what, const std::string& param, const BodyLimits& limits) {
  if (count > static_cast<std::size_t>(limits.max_items)) {
    throw FieldError(Code::too_large, cat(count, " ", what, "; the limit is ", limits.max_items, " in one request"),
                     param);
  }
}

/// The closing quote of the string that begins at `at`, or the end.
std::size_t end_of_string(std::string_view json, std::size_t at) noexcept {
  for (std::size_t from = at + 1;; from = at + 1) {
    at = std::min(json.find('"', from), json.size());
    std::size_t escapes = 0;
    while (at - escapes > from && json[at - escapes - 1] == '\\') ++escapes;
    if (at == json.size() || escapes % 2 == 0) return at;
  }
}

/// Brackets, commas, colons and values: what simdjson keeps an entry for. Never fewer than it finds.
std::size_t count_values(std::string_view json) noexcept {
  std::size_t count = 0;
  bool between = true;  // no value has begun since the last bracket, comma, colon or blank
  for (std::size_t i = 0; i < json.size(); ++i) {
    switch (json[i]) {
      case '"':
        ++count;
        i = end_of_string(json, i);
        between = true;
        break;
      case '{':
      case '}':
      case '[':
      case ']':
      case ',':
      case ':': ++count; [[fallthrough]];
      case ' ':
      case '\t':
      case '\r':
      case '\n': between = true; break;
      default:
        count += std::exchange(between, false) ? 1 : 0;
        if (json[i] == '\\') ++i;  // outside strings too it keeps simdjson from seeing a quote
    }
  }
  return count;
}

/// Parses the whole body before anything is read from it: simdjson's DOM, not its on-demand reader, because that one
/// lets malformed JSON pass in fields that nobody looks at, and here a body is either well-formed or refused.
class Document {
 public:
  Document(const std::string& json, const BodyLimits& limits) {
    if (json.find_first_not_of(" \t\r\n") == std::string::npos) {
      throw Error(Code::bad_data, "the body is empty; send a JSON object");
    }
    if (const std::size_t values = count_values(json); values > max_values(limits)) {
      throw Error(Code::too_large, cat("the body has ", values, " JSON values, brackets and commas; the limit is ",
                                       max_values(limits), " in one request"));
    }
    const bool padded = json.capacity() - json.size() >= simdjson::SIMDJSON_PADDING;
    element root;
    if (const auto error = parser_.parse(json.data(), json.size(), !padded).get(root)) {
      if (error == simdjson::MEMALLOC) throw std::bad_alloc();
      throw Error(Code::bad_data, cat("the body is not valid JSON: ", simdjson::error_message(error)));
    }
    if (root.get(fields_)) throw Error(Code::bad_data, cat("the body must be a JSON object, not ", kind_of(root)));
  }

  /// Calls take(key, value) for every field that is not null; a field given twice is an error.
  template <class Take>
  void for_each(Take take) const {
    std::set<std::string_view> seen;
    for (const auto [key, value] : fields_) {
      if (!seen.insert(key).second)
        wrong(std::string(key.substr(0, 64)), cat("\"", key.substr(0, 64), "\" is given twice"));
      if (!value.is_null()) take(key, value);
    }
  }

 private:
  simdjson::dom::parser parser_;
  object fields_;
};

std::int64_t integer_of(element value, const std::string& param, std::int64_t least, std::int64_t most) {
  std::int64_t number = 0;
  if (value.get(number) || number < least || number > most) {
    wrong(param, cat("\"", param, "\" must be a whole number from ", least, " to ", most));
  }
  return number;
}

/// Takes "priority" and "timeout", and leaves other fields alone.
void take_wish(std::string_view key, element value, Wishes& wishes) {
  if (key == "priority") {
    std::string_view name;
    if (value.get(name)) wrong("priority", cat("\"priority\" must be a string, not ", kind_of(value)));
    wishes.high = is_high(name, "priority");
  } else if (key == "timeout") {
    double seconds = 0;
    if (value.get(seconds)) seconds = 0;
    wishes.timeout = checked_timeout(seconds, "timeout");
  }
}

std::vector<std::int32_t> ids_of(array list, const std::string& what) {
  std::vector<std::int32_t> ids;
  for (element value : list) {
    std::int64_t id = 0;
    if (value.get(id) || id < 0 || id > INT32_MAX) {
      wrong("input", cat(what, ": a token id must be a whole number from 0 to ", INT32_MAX));
    }
    ids.push_back(static_cast<std::int32_t>(id));
  }
  if (ids.empty()) wrong("input", cat(what, " is an empty list"));
  return ids;
}

/// {"text": …}, {"image": …}, {"type": "image_url", "image_url": {"url": …}} or {"type": "text", "text": …}.
Input input_of(object fields, const std::string& what, const BodyLimits& limits) {
  element value;
  const bool has_text = !fields.at_key("text").get(value);
  element image, url;
  const bool has_image = !fields.at_key("image").get(image);
  const bool has_url = !fields.at_key("image_url").get(url);
  if (has_text + has_image + has_url != 1) {
    wrong("input", cat(what, " must have exactly one of \"text\", \"image\" and \"image_url\""));
  }
  if (has_text) return checked_text(string_of(value, what + ".text", "input"), what + ".text", "input", limits);
  if (has_image) return image_from_string(string_of(image, what + ".image", "input"), what + ".image");
  object inner;
  if (!url.get(inner)) {
    if (inner.at_key("url").get(url)) wrong("input", cat(what, ".image_url has no \"url\""));
  }
  return image_from_data_uri(string_of(url, what + ".image_url", "input"), what + ".image_url");
}

Input input_of(element value, const std::string& what, const BodyLimits& limits) {
  switch (value.type()) {
    case element_type::STRING: {
      const std::string_view text = value.get_string().value_unsafe();
      if (is_image_uri(text)) return image_from_data_uri(text, what);
      return checked_text(text, what, "input", limits);
    }
    case element_type::ARRAY: return ids_of(value.get_array().value_unsafe(), what);
    case element_type::OBJECT: return input_of(object(value.get_object().value_unsafe()), what, limits);
    default: wrong("input", cat(what, " must be a string, a list of token ids or an object, not ", kind_of(value)));
  }
}

std::vector<Input> inputs_of(element value, const BodyLimits& limits) {
  std::vector<Input> inputs;
  array list;
  if (value.get(list)) {
    inputs.push_back(input_of(value, "input", limits));
    return inputs;
  }
  if (list.begin() == list.end()) wrong("input", "\"input\" is an empty list; give at least one text or picture");
  if ((*list.begin()).is_number()) {
    inputs.emplace_back(ids_of(list, "input"));
    return inputs;
  }
  // Counted first: array::size() saturates at 2^24 - 1, which is beyond every limit too.
  check_count(list.size(), "inputs", "input", limits);
  for (element item : list) inputs.push_back(input_of(item, cat("input[", inputs.size(), "]"), limits));
  return inputs;
}

std::vector<std::string> texts_of(element value, const std::string& param, const BodyLimits& limits) {
  std::vector<std::string> texts;
  array list;
  if (value.get(list)) {
    texts.push_back(checked_text(string_of(value, cat("\"", param, "\""), param), param, param, limits));
    return texts;
  }
  if (list.size() > static_cast<std::size_t>(limits.max_label_texts)) {
    throw FieldError(Code::too_large,
                     cat(list.size(), " ", param, "; the limit is ", limits.max_label_texts, " in one request"), param);
  }
  for (element item : list) {
    const std::string what = cat(param, "[", texts.size(), "]");
    texts.push_back(checked_text(string_of(item, what, param), what, param, limits));
  }
  if (texts.empty()) wrong(param, cat("\"", param, "\" is an empty list; leave it out or give at least one"));
  return texts;
}

std::size_t holes_of(const std::string& frame) {
  std::size_t holes = 0;
  for (std::size_t at = 0; (at = frame.find("{}", at)) != std::string::npos; at += 2) ++holes;
  return holes;
}

/// Labels and templates are multiplied with each other, so each is held far below what a single text may be.
void check_templates(const ClassifyBody& body, const BodyLimits& limits) {
  constexpr std::size_t kMaxBytes = 1024, kMaxHoles = 4;
  for (const auto* list : {body.labels ? &*body.labels : nullptr, body.templates ? &*body.templates : nullptr}) {
    const char* name = body.labels && list == &*body.labels ? "labels" : "templates";
    for (std::size_t i = 0; list && i < list->size(); ++i) {
      if ((*list)[i].size() > kMaxBytes) {
        throw FieldError(
            Code::too_large,
            cat(name, "[", i, "] has ", (*list)[i].size(), " bytes; the limit is ", kMaxBytes, " bytes each"), name);
      }
    }
  }
  const std::size_t templates = body.templates ? body.templates->size() : 1;
  for (std::size_t i = 0; body.templates && i < templates; ++i) {
    const std::size_t holes = holes_of((*body.templates)[i]);
    if (holes == 0) {
      wrong("templates", cat("templates[", i, "] has no {} where the label belongs: for example \"a photo of a {}\""));
    }
    if (holes > kMaxHoles) wrong("templates", cat("templates[", i, "] has ", holes, " {}; the limit is ", kMaxHoles));
  }
  if (body.labels && body.labels->size() * templates > static_cast<std::size_t>(limits.max_label_texts)) {
    throw FieldError(Code::too_large,
                     cat(body.labels->size(), " labels x ", templates, " templates; the limit is ",
                         limits.max_label_texts, " texts"),
                     "labels");
  }
  if (body.images.empty()) wrong("image", "no picture: give \"image\" as a data URI or base64, or a list \"images\"");
}

std::size_t number_of(std::string_view text, const std::string& param) {
  std::size_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) {
    wrong(param, cat("\"", param, "\" must be a whole number, not \"", text.substr(0, 32), "\""));
  }
  return number;
}

EncodedImage copy_of(std::string_view bytes) {
  const auto* begin = reinterpret_cast<const std::byte*>(bytes.data());
  return {std::make_shared<const std::vector<std::byte>>(begin, begin + bytes.size())};
}

void add_form_field(std::string_view name, std::string_view data, ClassifyBody& body, const BodyLimits& limits) {
  if (name == "labels" || name == "label") {
    if (!body.labels) body.labels.emplace();
    for (std::string& label : split_list(checked_text(data, "labels", "labels", limits))) {
      body.labels->push_back(std::move(label));
    }
  } else if (name == "template" || name == "templates") {
    if (!body.templates) body.templates.emplace();
    body.templates->push_back(checked_text(data, "template", "templates", limits));
  } else if (name == "top") {
    body.top = number_of(data, "top");
  } else if (name == "model") {
    body.model = data.substr(0, 1024);
  }
}

/// The field that an item belongs to: "images" of "images[3]", "input" of "input[2].image".
std::string param_of(std::string_view what) {
  return std::string(what.substr(0, what.find_first_of("[.")));
}

/// A picture of a list: what is wrong with its text is its own error.
Picture picture_from_string(std::string_view text, std::string_view what) {
  try {
    return image_from_string(text, what);
  } catch (const Error& error) {
    return ItemError{error.code(), error.what()};
  }
}

void check_form(const ClassifyBody& body, const BodyLimits& limits) {
  if (body.labels && body.labels->empty())
    wrong("labels", "\"labels\" holds no label; leave it out or give at least one");
  check_templates(body, limits);
}

}  // namespace

std::size_t max_values(const BodyLimits& limits) noexcept {
  // A text of token ids has two entries an id; no model's context is nearly as long.
  constexpr std::size_t kOneInput = 256, kOneLabel = 4, kFields = 65'536;
  return kFields + static_cast<std::size_t>(limits.max_items) * kOneInput +
         static_cast<std::size_t>(limits.max_label_texts) * kOneLabel;
}

std::size_t parse_bytes(std::string_view body, const BodyLimits& limits) noexcept {
  constexpr std::size_t kEntry = 20;  // two words on simdjson's tape, one index
  return body.size() / 3 * 8 + kEntry * std::min(count_values(body) + 4, max_values(limits));
}

bool is_image_uri(std::string_view text) noexcept {
  constexpr std::string_view kPrefix = "data:image/";
  return text.size() >= kPrefix.size() &&
         std::equal(kPrefix.begin(), kPrefix.end(), text.begin(),
                    [](char a, unsigned char b) { return a == static_cast<char>(std::tolower(b)); });
}

EncodedImage image_from_data_uri(std::string_view uri, std::string_view what) {
  if (!is_image_uri(uri)) {
    const bool link = uri.starts_with("http://") || uri.starts_with("https://");
    throw FieldError(link ? Code::unsupported : Code::invalid_argument,
                     link ? cat(what, ": this server fetches no URLs; send the picture as data:image/…;base64,…")
                          : cat(what, " must be a data URI: data:image/…;base64,…"),
                     param_of(what));
  }
  // A media type and its parameters are short: a comma far away belongs to something that is no data URI.
  const std::size_t comma = uri.substr(0, 256).find(',');
  if (comma == std::string_view::npos || !uri.substr(0, comma).ends_with(";base64")) {
    throw FieldError(Code::invalid_argument, cat(what, ": only base64 data URIs are read: data:image/…;base64,…"),
                     param_of(what));
  }
  try {
    return {std::make_shared<const std::vector<std::byte>>(decode_base64(uri.substr(comma + 1)))};
  } catch (const Error& error) {
    throw FieldError(error.code(), cat(what, ": ", error.what()), param_of(what));
  }
}

EncodedImage image_from_string(std::string_view text, std::string_view what) {
  if (text.starts_with("data:") || text.find("://") < 16) return image_from_data_uri(text, what);
  try {
    return {std::make_shared<const std::vector<std::byte>>(decode_base64(text))};
  } catch (const Error& error) {
    throw FieldError(error.code(), cat(what, ": ", error.what()), param_of(what));
  }
}

EmbeddingsBody parse_embeddings(const std::string& json, const BodyLimits& limits) {
  EmbeddingsBody body;
  bool given = false;
  Document(json, limits).for_each([&](std::string_view key, element value) {
    if (key == "input") {
      body.inputs = inputs_of(value, limits);
      given = true;
    } else if (key == "model") {
      body.model = string_of(value, "\"model\"", "model");
    } else if (key == "encoding_format") {
      const std::string_view format = string_of(value, "\"encoding_format\"", "encoding_format");
      if (format != "float" && format != "base64") {
        wrong("encoding_format",
              cat("\"encoding_format\" must be \"float\" or \"base64\", not \"", format.substr(0, 32), "\""));
      }
      body.base64 = format == "base64";
    } else if (key == "dimensions") {
      body.dimensions = static_cast<int>(integer_of(value, "dimensions", 1, 1 << 20));
    } else if (key == "user") {
      string_of(value, "\"user\"", "user");
    } else {
      take_wish(key, value, body.wishes);
    }
  });
  if (!given) wrong("input", "\"input\" is missing: a text, a picture as a data URI, or a list of them");
  return body;
}

ClassifyBody parse_classify(const std::string& json, const BodyLimits& limits) {
  ClassifyBody body;
  bool one = false, many = false;
  Document(json, limits).for_each([&](std::string_view key, element value) {
    if (key == "image") {
      one = true;
      body.images.push_back(image_from_string(string_of(value, "\"image\"", "image"), "image"));
    } else if (key == "images") {
      many = true;
      array list;
      if (value.get(list)) wrong("images", cat("\"images\" must be a list, not ", kind_of(value)));
      check_count(list.size(), "images", "images", limits);
      for (element item : list) {
        const std::string what = cat("images[", body.images.size(), "]");
        body.images.push_back(picture_from_string(string_of(item, what, "images"), what));
      }
    } else if (key == "labels") {
      body.labels = texts_of(value, "labels", limits);
    } else if (key == "templates" || key == "template") {
      if (body.templates) wrong("templates", "give either \"template\" or \"templates\"");
      body.templates = texts_of(value, std::string(key), limits);
    } else if (key == "top") {
      body.top = static_cast<std::size_t>(integer_of(value, "top", 0, 1 << 24));
    } else if (key == "model") {
      body.model = string_of(value, "\"model\"", "model");
    } else {
      take_wish(key, value, body.wishes);
    }
  });
  if (one && many) wrong("images", "give either \"image\" or \"images\"");
  check_templates(body, limits);
  return body;
}

SearchBody parse_search(const std::string& json, const BodyLimits& limits) {
  SearchBody body;
  bool text = false;
  Document(json, limits).for_each([&](std::string_view key, element value) {
    if (key == "text") {
      body.text = checked_text(string_of(value, "\"text\"", "text"), "text", "text", limits);
      text = true;
    } else if (key == "image") {
      body.image = image_from_string(string_of(value, "\"image\"", "image"), "image");
    } else if (key == "top") {
      body.top = static_cast<std::size_t>(integer_of(value, "top", 1, 1000));
    } else if (key == "model") {
      body.model = string_of(value, "\"model\"", "model");
    } else {
      take_wish(key, value, body.wishes);
    }
  });
  if (text == body.image.has_value()) wrong("text", "give either \"text\" or \"image\" to search for");
  return body;
}

ClassifyBody parse_classify_form(std::string_view bytes, std::string_view content_type, const BodyLimits& limits) {
  ClassifyBody body;
  const std::size_t max_parts =
      static_cast<std::size_t>(limits.max_items) + static_cast<std::size_t>(limits.max_label_texts);
  for (const Part& part : parse_multipart(bytes, content_type, max_parts)) {
    if (part.name == "image" || part.name == "images" || part.name == "file") {
      check_count(body.images.size() + 1, "images", "image", limits);
      // A part without a file name is a text field: what a script pastes there is a data URI or base64.
      const std::string what = cat("images[", body.images.size(), "]");
      body.images.push_back(part.file ? Picture(copy_of(part.data)) : picture_from_string(part.data, what));
    } else {
      add_form_field(part.name, part.data, body, limits);
    }
  }
  check_form(body, limits);
  return body;
}

ClassifyBody parse_classify_picture(std::string_view bytes, std::string_view query, const BodyLimits& limits) {
  ClassifyBody body;
  for (const char* name : {"labels", "template", "top", "model"}) {
    const std::string value = query_value(query, name);
    if (!value.empty()) add_form_field(name, value, body, limits);
  }
  if (!bytes.empty()) body.images.push_back(copy_of(bytes));
  check_form(body, limits);
  return body;
}

}  // namespace tandem::server
