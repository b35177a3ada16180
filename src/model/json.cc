#include "model/json.h"

#include <cmath>
#include <fstream>

#include "base/strings.h"
#include "tandem/error.h"

namespace tandem::model {
namespace {
const Json kEmpty = Json::object();
constexpr std::uintmax_t kMaxFile = std::uintmax_t{64} << 20;
constexpr int kMaxDepth = 64;
}  // namespace

Json parse_json_object(std::string_view text, const std::string& where) {
  std::vector<std::set<std::string>> keys;
  std::string duplicate;
  bool deep = false;
  const Json::parser_callback_t watch = [&](int depth, Json::parse_event_t event, Json& value) {
    if (depth > kMaxDepth) deep = true;
    switch (event) {
      case Json::parse_event_t::object_start: keys.emplace_back(); break;
      case Json::parse_event_t::object_end:
        if (!keys.empty()) keys.pop_back();
        break;
      case Json::parse_event_t::key:
        if (!keys.empty() && !keys.back().insert(value.get<std::string>()).second) duplicate = value.get<std::string>();
        break;
      default: break;
    }
    return !deep;  // what is nested too deeply is dropped while parsing, not kept
  };
  Json out;
  try {
    out = Json::parse(text, watch);
  } catch (const Json::exception& e) {
    throw Error(Code::bad_data, cat(where, ": not valid JSON: ", e.what()));
  }
  if (deep) throw Error(Code::bad_data, cat(where, ": nested more than ", kMaxDepth, " levels deep"));
  if (!duplicate.empty()) throw Error(Code::bad_data, cat(where, ": the key \"", duplicate, "\" stands there twice"));
  if (!out.is_object()) throw Error(Code::bad_data, cat(where, ": expected a JSON object, found ", out.type_name()));
  return out;
}

Json read_json_object(const std::filesystem::path& file) {
  std::error_code error;
  const std::uintmax_t size = std::filesystem::file_size(file, error);
  if (error) throw Error(Code::not_found, cat("cannot read ", file.string(), ": ", error.message()));
  if (size > kMaxFile) {
    throw Error(Code::too_large, cat(file.string(), ": ", size, " bytes; JSON files up to ", kMaxFile, " are read"));
  }
  std::ifstream in(file, std::ios::binary);
  std::string text(static_cast<std::size_t>(size), '\0');
  if (!in.read(text.data(), static_cast<std::streamsize>(size))) {
    throw Error(Code::io_error, cat("cannot read ", file.string()));
  }
  return parse_json_object(text, file.string());
}

std::string show(const Json& value) {
  constexpr std::size_t kMost = 80;
  std::string out = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (out.size() > kMost) out = out.substr(0, kMost) + "…";
  return out;
}

void Fields::reject(std::string_view key, const Json& value, std::string_view expected) const {
  throw Error(Code::bad_data, cat(name(key), " is ", show(value), "; expected ", expected));
}

const Json* Fields::find(std::string_view key) const {
  asked_.emplace(key);
  const auto found = object_.find(key);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

bool Fields::is_null(std::string_view key) const {
  const auto found = object_.find(key);
  return found != object_.end() && found->is_null();
}

bool Fields::has(std::string_view key) const {
  return find(key) != nullptr;
}

int Fields::integer(std::string_view key, int fallback, int least, int most) const {
  const Json* value = find(key);
  if (value == nullptr) return fallback;
  const std::string expected = cat("an integer from ", least, " to ", most);
  if (!value->is_number_integer()) reject(key, *value, expected);
  if (value->is_number_unsigned() && value->get<std::uint64_t>() > static_cast<std::uint64_t>(most)) {
    reject(key, *value, expected);
  }
  const auto n = value->get<std::int64_t>();
  if (n < least || n > most) reject(key, *value, expected);
  return static_cast<int>(n);
}

double Fields::number(std::string_view key, double fallback) const {
  const Json* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_number() || !std::isfinite(value->get<double>())) reject(key, *value, "a finite number");
  return value->get<double>();
}

bool Fields::boolean(std::string_view key, bool fallback) const {
  const Json* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) reject(key, *value, "true or false");
  return value->get<bool>();
}

std::string Fields::text(std::string_view key, std::string_view fallback) const {
  const Json* value = find(key);
  if (value == nullptr) return std::string(fallback);
  if (!value->is_string()) reject(key, *value, "a string");
  return value->get<std::string>();
}

Fields Fields::object(std::string_view key) const {
  const Json* value = find(key);
  if (value != nullptr && !value->is_object()) reject(key, *value, "an object");
  return {value == nullptr ? kEmpty : *value, name(key) + "."};
}

int Fields::square(std::string_view key, int fallback) const {
  const Json* value = find(key);
  if (value == nullptr || !value->is_array()) return integer(key, fallback);
  constexpr std::string_view kExpected = "one side, or two equal ones (pictures that are not square are not supported)";
  if (value->size() != 2 || !(*value)[0].is_number_integer() || (*value)[0] != (*value)[1]) {
    reject(key, *value, kExpected);
  }
  const Json one = {{std::string(key), (*value)[0]}};
  return Fields(one, where_).integer(key, fallback);
}

void Fields::triple(std::string_view key, float (&out)[3]) const {
  const Json* value = find(key);
  if (value == nullptr) return;
  constexpr std::string_view kExpected = "three finite numbers";
  const bool list = value->is_array();
  if (list ? value->size() != 3 : !value->is_number()) reject(key, *value, kExpected);
  for (std::size_t i = 0; i < 3; ++i) {
    const Json& one = list ? (*value)[i] : *value;
    if (!one.is_number() || !std::isfinite(one.get<float>())) reject(key, *value, kExpected);
    out[i] = one.get<float>();
  }
}

void Fields::ignore(std::initializer_list<std::string_view> keys) const {
  for (const std::string_view key : keys) asked_.emplace(key);
}

std::vector<std::string> Fields::unknown() const {
  std::vector<std::string> out;
  for (const auto& [key, value] : object_.items()) {
    if (!value.is_null() && !asked_.contains(key)) out.push_back(key);
  }
  return out;
}

}  // namespace tandem::model
