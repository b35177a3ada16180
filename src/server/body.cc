#include "server/body.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "server/multipart.h"
#include "server/read_input.h"

namespace tandem::server {
namespace {

/// Labels or templates: a string, or a list of them.
std::vector<std::string> texts_of(Value value, const std::string& param, const BodyLimits& limits) {
  std::vector<std::string> texts;
  List list;
  if (value.get(list)) {
    texts.push_back(checked_text(string_of(value, cat("\"", param, "\""), param), param, param, limits));
    return texts;
  }
  if (list.size() > static_cast<std::size_t>(limits.max_label_texts)) {
    throw FieldError(Code::too_large,
                     cat(list.size(), " ", param, "; the limit is ", limits.max_label_texts, " in one request"), param);
  }
  for (Value item : list) {
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

/// A picture of a list: what is wrong with its text is its own error.
Input picture_from_string(std::string_view text, std::string_view what, bool allow_urls) {
  try {
    return image_from_string(text, what, allow_urls);
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

ClassifyBody parse_classify(const std::string& json, const BodyLimits& limits) {
  ClassifyBody body;
  bool one = false, many = false;
  Document(json, limits).for_each([&](std::string_view key, Value value) {
    if (key == "image") {
      one = true;
      body.images.push_back(image_from_string(string_of(value, "\"image\"", "image"), "image", limits.allow_urls));
    } else if (key == "images") {
      many = true;
      List list;
      if (value.get(list)) wrong("images", cat("\"images\" must be a list, not ", kind_of(value)));
      check_count(list.size(), "images", "images", limits);
      for (Value item : list) {
        const std::string what = cat("images[", body.images.size(), "]");
        body.images.push_back(picture_from_string(string_of(item, what, "images"), what, limits.allow_urls));
      }
    } else if (key == "input") {
      body.plain = true;
      body.images = read_inputs(value, "input", Strings::either, limits);
    } else if (key == "raw_scores") {
      body.raw_scores = bool_of(value, "raw_scores");
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
  if (body.plain && (one || many)) wrong("input", "give either \"input\" or pictures");
  if (body.plain) require_inputs(body.images, "input");
  check_templates(body, limits);
  return body;
}

SearchBody parse_search(const std::string& json, const BodyLimits& limits) {
  SearchBody body;
  bool text = false;
  Document(json, limits).for_each([&](std::string_view key, Value value) {
    if (key == "text") {
      body.text = checked_text(string_of(value, "\"text\"", "text"), "text", "text", limits);
      text = true;
    } else if (key == "image") {
      body.image = image_from_string(string_of(value, "\"image\"", "image"), "image", limits.allow_urls);
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
      body.images.push_back(part.file ? Input(copy_of(part.data))
                                      : picture_from_string(part.data, what, limits.allow_urls));
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
  if (!bytes.empty()) body.images.emplace_back(copy_of(bytes));
  check_form(body, limits);
  return body;
}

}  // namespace tandem::server
