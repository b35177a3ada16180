#include "server/read_json.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <utility>

namespace tandem::server {
namespace {

/// A parser has some 14 bytes for each byte of the body, hardly any of which a picture in base64 makes it touch: had
/// and given back for each request they keep the heap in motion, which grows by what comes to lie between. The thread's
/// last one is kept, unless a body of more bytes made it large.
constexpr std::size_t kSpareBytes = 512 << 10;
thread_local std::unique_ptr<simdjson::dom::parser> spare_parser;

/// The closing quote of the string that begins at `at`, or the end.
std::size_t end_of_string(std::string_view json, std::size_t at) noexcept {
  for (std::size_t from = at + 1;; from = at + 1) {
    at = std::min(json.find('"', from), json.size());
    std::size_t escapes = 0;
    while (at - escapes > from && json[at - escapes - 1] == '\\') ++escapes;
    if (at == json.size() || escapes % 2 == 0) return at;
  }
}

/// JSON allows whole numbers of any length, the parser does not: the last two digits of too long ones become "e2",
/// which says about the same in as many characters.
std::string shortened(std::string json) {
  constexpr std::size_t kMost = 18;  // digits that always fit 64 bits
  const auto digit = [&](std::size_t at) { return at < json.size() && json[at] >= '0' && json[at] <= '9'; };
  for (std::size_t at = 0; at < json.size(); ++at) {
    if (json[at] == '"') at = end_of_string(json, at);
    if (!digit(at)) continue;
    const std::size_t begin = at;
    while (digit(at)) ++at;
    const std::string_view before =
        std::string_view(json).substr(begin > 1 ? begin - 2 : 0, std::min<std::size_t>(begin, 2));
    const bool fraction = before.ends_with('.') || before.find_first_of("eE+") != std::string_view::npos;
    const bool whole = at == json.size() || (json[at] != '.' && json[at] != 'e' && json[at] != 'E');
    if (whole && !fraction && at - begin > kMost && json[begin] != '0') json.replace(at - 2, 2, "e2");
    --at;
  }
  return json;
}

/// 3, and 3.0 as well: JSON has one kind of number.
bool whole_number(Value value, std::int64_t& number) {
  if (!value.get(number)) return true;
  constexpr double kExact = 1e15;
  double real = 0;
  if (value.get(real) || std::abs(real) > kExact || real != std::trunc(real)) return false;
  number = static_cast<std::int64_t>(real);
  return true;
}

}  // namespace

const char* kind_of(Value value) {
  switch (value.type()) {
    case ValueType::ARRAY: return "a list";
    case ValueType::OBJECT: return "an object";
    case ValueType::INT64:
    case ValueType::UINT64:
    case ValueType::DOUBLE: return "a number";
    case ValueType::STRING: return "a string";
    case ValueType::BOOL: return "true or false";
    case ValueType::NULL_VALUE: return "null";
  }
  return "something else";
}

void wrong(const std::string& param, const std::string& message) {
  throw FieldError(Code::invalid_argument, message, param);
}

std::string_view string_of(Value value, const std::string& what, const std::string& param) {
  std::string_view text;
  if (value.get(text)) wrong(param, cat(what, " must be a string, not ", kind_of(value)));
  return text;
}

void take_wish(std::string_view key, Value value, Wishes& wishes) {
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

Document::Document(const std::string& json, const BodyLimits& limits)
    : parser_(spare_parser ? std::move(spare_parser) : std::make_unique<simdjson::dom::parser>()) {
  if (json.find_first_not_of(" \t\r\n") == std::string::npos) {
    throw Error(Code::bad_data, "the body is empty; send a JSON object");
  }
  if (const std::size_t values = count_values(json); values > max_values(limits)) {
    throw Error(Code::too_large, cat("the body has ", values, " JSON values, brackets and commas; the limit is ",
                                     max_values(limits), " in one request"));
  }
  const bool padded = json.capacity() - json.size() >= simdjson::SIMDJSON_PADDING;
  Value root;
  auto error = parser_->parse(json.data(), json.size(), !padded).get(root);
  if (error == simdjson::NUMBER_ERROR) error = parser_->parse(shortened(json)).get(root);
  if (error) {
    if (error == simdjson::MEMALLOC) throw std::bad_alloc();
    throw Error(Code::bad_data, cat("the body is not valid JSON: ", simdjson::error_message(error)));
  }
  if (root.get(fields_)) throw Error(Code::bad_data, cat("the body must be a JSON object, not ", kind_of(root)));
}

Document::~Document() {
  if (parser_->capacity() <= kSpareBytes) spare_parser = std::move(parser_);
}

std::int64_t integer_of(Value value, const std::string& param, std::int64_t least, std::int64_t most) {
  std::int64_t number = 0;
  if (!whole_number(value, number) || number < least || number > most) {
    wrong(param, cat("\"", param, "\" must be a whole number from ", least, " to ", most));
  }
  return number;
}

std::vector<std::int32_t> ids_of(List list, const std::string& what, const std::string& param) {
  std::vector<std::int32_t> ids;
  for (Value value : list) {
    std::int64_t id = 0;
    if (!whole_number(value, id) || id < 0 || id > INT32_MAX) {
      wrong(param, cat(what, ": a token id must be a whole number from 0 to ", INT32_MAX));
    }
    ids.push_back(static_cast<std::int32_t>(id));
  }
  if (ids.empty()) wrong(param, cat(what, " is an empty list"));
  return ids;
}

bool bool_of(Value value, const std::string& param) {
  bool yes = false;
  if (value.get(yes)) wrong(param, cat("\"", param, "\" must be true or false, not ", kind_of(value)));
  return yes;
}

bool field_of(Object fields, std::string_view name, Value& value) {
  return !fields.at_key(name).get(value) && !value.is_null();
}

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

}  // namespace tandem::server
