#include "server/input.h"

#include <algorithm>
#include <cctype>

#include "base/base64.h"
#include "server/read_input.h"

namespace tandem::server {
namespace {

EncodedImage decoded(std::string_view base64, std::string_view what) {
  try {
    return {std::make_shared<const std::vector<std::byte>>(decode_base64(base64))};
  } catch (const Error& error) {
    throw FieldError(error.code(), cat(what, ": ", error.what()), param_of(what));
  }
}

/// What a "content" list holds: one text or one picture. A vector of both together would be neither's.
Input input_of_parts(List parts, const std::string& what, const BodyLimits& limits) {
  if (parts.size() != 1) {
    wrong(param_of(what), cat(what, " has ", parts.size(),
                              " parts: give one text or one picture for each vector, as inputs of their own"));
  }
  const Value part = parts.at(0).value();
  if (!part.is_object()) wrong(param_of(what), cat(what, "[0] must be an object, not ", kind_of(part)));
  return read_input(part, what + "[0]", Strings::texts, limits);
}

Input input_of_content(Value content, const std::string& what, const BodyLimits& limits) {
  List parts;
  if (!content.get(parts)) return input_of_parts(parts, what, limits);
  return checked_text(string_of(content, what, param_of(what)), what, param_of(what), limits);
}

/// {"text": …}, {"image": …}, {"url": …}, {"bytes": …}, {"image_url": {"url": …}} and {"content": …}; a "type" beside
/// them says nothing that they do not say.
Input input_of_object(Object fields, const std::string& what, const BodyLimits& limits) {
  constexpr std::string_view kNames[] = {"text", "image", "image_url", "url", "bytes", "content"};
  std::string_view name;
  Value value, found;
  for (const std::string_view one : kNames) {
    if (!field_of(fields, one, found)) continue;
    if (!name.empty()) wrong(param_of(what), cat(what, " must have exactly one of \"", name, "\" and \"", one, "\""));
    name = one;
    value = found;
  }
  const std::string inner = cat(what, ".", name), param = param_of(what);
  if (name == "text") return checked_text(string_of(value, inner, param), inner, param, limits);
  if (name == "image" || name == "bytes") {
    return image_from_string(string_of(value, inner, param), inner, limits.allow_urls);
  }
  if (name == "content") return input_of_content(value, inner, limits);
  if (name.empty()) {
    wrong(param, cat(what, " must have exactly one of \"text\", \"image\", \"image_url\" and \"content\""));
  }
  Object link;
  if (!value.get(link) && !field_of(link, "url", value)) wrong(param, cat(inner, " has no \"url\""));
  return image_from_data_uri(string_of(value, inner, param), inner, limits.allow_urls);
}

}  // namespace

std::string param_of(std::string_view what) {
  return std::string(what.substr(0, what.find_first_of("[.")));
}

bool is_image_uri(std::string_view text) noexcept {
  constexpr std::string_view kPrefix = "data:image/";
  return text.size() >= kPrefix.size() &&
         std::equal(kPrefix.begin(), kPrefix.end(), text.begin(),
                    [](char a, unsigned char b) { return a == static_cast<char>(std::tolower(b)); });
}

EncodedImage copy_of(std::string_view bytes) {
  const auto* begin = reinterpret_cast<const std::byte*>(bytes.data());
  return {std::make_shared<const std::vector<std::byte>>(begin, begin + bytes.size())};
}

Input image_from_data_uri(std::string_view uri, std::string_view what, bool allow_urls) {
  if (!is_image_uri(uri)) {
    const bool link = uri.starts_with("http://") || uri.starts_with("https://");
    if (link && allow_urls) return ImageUrl{std::string(uri)};
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
  return decoded(uri.substr(comma + 1), what);
}

Input image_from_string(std::string_view text, std::string_view what, bool allow_urls) {
  if (text.starts_with("data:") || text.find("://") < 16) return image_from_data_uri(text, what, allow_urls);
  return decoded(text, what);
}

Input read_input(Value value, const std::string& what, Strings strings, const BodyLimits& limits) {
  switch (value.type()) {
    case ValueType::STRING: {
      const std::string_view text = value.get_string().value_unsafe();
      if (strings == Strings::images) return image_from_string(text, what, limits.allow_urls);
      if (strings == Strings::either && is_image_uri(text)) return image_from_data_uri(text, what, limits.allow_urls);
      return checked_text(text, what, param_of(what), limits);
    }
    case ValueType::ARRAY:
      if (strings == Strings::images) wrong(param_of(what), cat(what, " must be a picture, not a list"));
      return ids_of(value.get_array().value_unsafe(), what, param_of(what));
    case ValueType::OBJECT: return input_of_object(value.get_object().value_unsafe(), what, limits);
    default:
      wrong(param_of(what),
            cat(what, " must be a string, ",
                strings == Strings::images ? "a picture as base64 or a data URI, " : "a list of token ids ",
                "or an object, not ", kind_of(value)));
  }
}

Input read_input_or_error(Value value, const std::string& what, Strings strings, const BodyLimits& limits) {
  try {
    return read_input(value, what, strings, limits);
  } catch (const Error& error) {
    return ItemError{error.code(), error.what()};
  }
}

std::vector<Input> read_inputs(Value value, const std::string& name, Strings strings, const BodyLimits& limits) {
  std::vector<Input> inputs;
  List list;
  if (value.get(list)) {
    inputs.push_back(read_input_or_error(value, name, strings, limits));
    return inputs;
  }
  if (list.begin() == list.end()) {
    wrong(name, cat("\"", name, "\" is an empty list; give at least one text or picture"));
  }
  if ((*list.begin()).is_number() && strings != Strings::images) {
    inputs.emplace_back(ids_of(list, name, name));
    return inputs;
  }
  // Counted first: array::size() saturates at 2^24 - 1, which is beyond every limit too.
  check_count(list.size(), strings == Strings::images ? "images" : "inputs", name, limits);
  inputs.reserve(list.size());
  for (Value item : list) {
    inputs.push_back(read_input_or_error(item, cat(name, "[", inputs.size(), "]"), strings, limits));
  }
  return inputs;
}

std::vector<Input> read_messages(Value value, const BodyLimits& limits) {
  std::vector<Input> inputs;
  List list;
  if (value.get(list)) wrong("messages", cat("\"messages\" must be a list, not ", kind_of(value)));
  check_count(list.size(), "messages", "messages", limits);
  std::size_t index = 0;
  for (Value item : list) {
    const std::string what = cat("messages[", index++, "]");
    Object message;
    if (item.get(message)) wrong("messages", cat(what, " must be an object, not ", kind_of(item)));
    Value role, content;
    if (!field_of(message, "role", role)) wrong("messages", cat(what, " has no \"role\""));
    if (string_of(role, what + ".role", "messages") != "user") continue;
    if (!field_of(message, "content", content)) wrong("messages", cat(what, " has no \"content\""));
    try {
      inputs.push_back(input_of_content(content, what + ".content", limits));
    } catch (const Error& error) {
      inputs.emplace_back(ItemError{error.code(), error.what()});
    }
  }
  if (inputs.empty()) wrong("messages", "\"messages\" has no message whose role is \"user\"");
  return inputs;
}

void require_inputs(const std::vector<Input>& inputs, const std::string& param) {
  for (const Input& input : inputs) {
    if (const auto* error = std::get_if<ItemError>(&input)) throw FieldError(error->code, error->message, param);
  }
}

}  // namespace tandem::server
