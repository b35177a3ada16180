// Bodies of POST /v1/embeddings: JSON in the six dialects that clients have for pictures, forms, pictures, pixels.
#include <charconv>

#include "server/multipart.h"
#include "server/npy.h"
#include "server/read_input.h"

namespace tandem::server {
namespace {

bool base64_of(std::string_view format, const char* param) {
  if (format != "float" && format != "base64") {
    wrong(param, cat("\"", param, "\" must be \"float\" or \"base64\", not \"", format.substr(0, 32), "\""));
  }
  return format == "base64";
}

/// infinity's "modality" says what bare strings are; where it is missing NIM's rule holds: a data URI is a picture.
Strings strings_of(const Document& document) {
  Value value;
  if (!field_of(document.fields(), "modality", value)) return Strings::either;
  const std::string_view modality = string_of(value, "\"modality\"", "modality");
  if (modality == "image") return Strings::images;
  if (modality == "text") return Strings::texts;
  wrong("modality", cat("\"modality\" must be \"text\" or \"image\", not \"", modality.substr(0, 32), "\""));
}

EmbeddingsBody parse(const std::string& json, std::optional<Strings> strings, bool zero_is_all,
                     const BodyLimits& limits) {
  EmbeddingsBody body;
  const Document document(json, limits);
  if (!strings) strings = strings_of(document);
  std::string param;
  document.for_each([&](std::string_view key, Value value) {
    if (key == "input" || key == "messages") {
      if (!param.empty()) wrong("input", "give either \"input\" or \"messages\"");
      param = key;
      body.inputs = key == "input" ? read_inputs(value, "input", *strings, limits) : read_messages(value, limits);
    } else if (key == "model") {
      body.model = string_of(value, "\"model\"", "model");
    } else if (key == "encoding_format") {
      body.base64 = base64_of(string_of(value, "\"encoding_format\"", "encoding_format"), "encoding_format");
    } else if (key == "embedding_type") {  // Jina's name for it, which may be a list
      List list;
      if (!value.get(list) && list.size() == 1) value = *list.begin();
      body.base64 = base64_of(string_of(value, "\"embedding_type\"", "embedding_type"), "embedding_type");
    } else if (key == "dimensions") {
      body.dimensions = static_cast<int>(integer_of(value, "dimensions", zero_is_all ? 0 : 1, 1 << 20));
    } else if (key == "normalized") {
      body.normalize = bool_of(value, "normalized");
    } else if (key == "item_errors") {
      body.item_errors = bool_of(value, "item_errors");
    } else if (key == "user") {
      string_of(value, "\"user\"", "user");
    } else {
      take_wish(key, value, body.wishes);
    }
  });
  if (param.empty()) wrong("input", "\"input\" is missing: a text, a picture as a data URI, or a list of them");
  if (!body.item_errors) require_inputs(body.inputs, param);
  return body;
}

int dimensions_of(std::string_view text) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < 1 || number > 1 << 20) {
    wrong("dimensions",
          cat("\"dimensions\" must be a whole number from 1 to ", 1 << 20, ", not \"", text.substr(0, 32), "\""));
  }
  return number;
}

bool yes(std::string_view text, const char* param) {
  if (text != "true" && text != "false" && text != "1" && text != "0") {
    wrong(param, cat("\"", param, "\" must be true or false, not \"", text.substr(0, 32), "\""));
  }
  return text == "true" || text == "1";
}

/// A field of a form or of a query; false: it is none that is known.
bool add_field(std::string_view name, std::string_view value, EmbeddingsBody& body) {
  if (name == "model") {
    body.model = value.substr(0, 1024);
  } else if (name == "encoding_format") {
    body.base64 = base64_of(value, "encoding_format");
  } else if (name == "dimensions") {
    body.dimensions = dimensions_of(value);
  } else if (name == "normalized") {
    body.normalize = yes(value, "normalized");
  } else if (name == "item_errors") {
    body.item_errors = yes(value, "item_errors");
  } else {
    return false;
  }
  return true;
}

void add_query(std::string_view query, EmbeddingsBody& body) {
  for (const char* name : {"model", "encoding_format", "dimensions", "normalized", "item_errors"}) {
    const std::string value = query_value(query, name);
    if (!value.empty()) add_field(name, value, body);
  }
}

}  // namespace

EmbeddingsBody parse_embeddings(const std::string& json, const BodyLimits& limits, bool zero_is_all) {
  return parse(json, std::nullopt, zero_is_all, limits);
}

EmbeddingsBody parse_image_embeddings(const std::string& json, const BodyLimits& limits) {
  return parse(json, Strings::images, true, limits);
}

EmbeddingsBody parse_embeddings_form(std::string_view bytes, std::string_view content_type, const BodyLimits& limits) {
  constexpr std::size_t kFields = 16;
  EmbeddingsBody body;
  for (const Part& part : parse_multipart(bytes, content_type, static_cast<std::size_t>(limits.max_items) + kFields)) {
    const std::string what = cat("input[", body.inputs.size(), "]");
    if (part.file) {
      body.inputs.emplace_back(copy_of(part.data));
    } else if (part.name == "image" || part.name == "images" || part.name == "file") {
      try {
        body.inputs.push_back(image_from_string(part.data, what, limits.allow_urls));
      } catch (const Error& error) {
        body.inputs.emplace_back(ItemError{error.code(), error.what()});
      }
    } else if (part.name == "text" || part.name == "texts" || part.name == "input") {
      body.inputs.emplace_back(checked_text(part.data, what, "input", limits));
    } else {
      add_field(part.name, part.data, body);
    }
    check_count(body.inputs.size(), "inputs", "input", limits);
  }
  if (body.inputs.empty()) wrong("image", "the form has no part \"image\" or \"text\"");
  if (!body.item_errors) require_inputs(body.inputs, "input");
  return body;
}

EmbeddingsBody parse_embeddings_picture(std::string_view bytes, std::string_view query, const BodyLimits&) {
  EmbeddingsBody body;
  add_query(query, body);
  if (bytes.empty()) wrong("image", "the body is empty; send the bytes of a picture");
  body.inputs.emplace_back(copy_of(bytes));
  return body;
}

EmbeddingsBody parse_embeddings_npy(std::shared_ptr<const std::string> bytes, std::string_view query,
                                    const BodyLimits& limits) {
  EmbeddingsBody body;
  add_query(query, body);
  for (HostPixels& pixels : pixels_of_npy(bytes, limits.max_items)) body.inputs.emplace_back(std::move(pixels));
  return body;
}

}  // namespace tandem::server
