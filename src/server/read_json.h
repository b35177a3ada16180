// Reading JSON bodies: what the parsers of every dialect share. Only .cc files include it: it brings simdjson along.
#pragma once

#include <simdjson.h>

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/strings.h"
#include "server/body.h"
#include "server/message.h"

namespace tandem::server {

using Value = simdjson::dom::element;
using List = simdjson::dom::array;
using Object = simdjson::dom::object;
using ValueType = simdjson::dom::element_type;

/// "a list", "null", …: for messages.
const char* kind_of(Value value);

/// Throws invalid_argument that names the field.
[[noreturn]] void wrong(const std::string& param, const std::string& message);

/// The string, or an error that begins with `what`.
std::string_view string_of(Value value, const std::string& what, const std::string& param);
bool bool_of(Value value, const std::string& param);
std::int64_t integer_of(Value value, const std::string& param, std::int64_t least, std::int64_t most);

/// Takes "priority" and "timeout", and leaves other fields alone. Throws what is_high() throws.
void take_wish(std::string_view key, Value value, Wishes& wishes);

/// A text within max_text_bytes; throws too_large.
std::string checked_text(std::string_view text, const std::string& what, const std::string& param,
                         const BodyLimits& limits);
/// Throws too_large for more than max_items.
void check_count(std::size_t count, const char* what, const std::string& param, const BodyLimits& limits);

/// Token ids; throws where one is no whole number of 31 bits, or none is there.
std::vector<std::int32_t> ids_of(List list, const std::string& what, const std::string& param);

/// The field of an object, or false where it is missing or null.
bool field_of(Object fields, std::string_view name, Value& value);

/// Brackets, commas, colons and values: what simdjson keeps an entry for. Never fewer than it finds.
std::size_t count_values(std::string_view json) noexcept;

/// Parses the whole body before anything is read from it: simdjson's DOM, not its on-demand reader, because that one
/// lets malformed JSON pass in fields that nobody looks at, and here a body is either well-formed or refused. Throws
/// bad_data or too_large. What is read from it lives as long as it does.
class Document {
 public:
  Document(const std::string& json, const BodyLimits& limits);
  ~Document();
  Document(const Document&) = delete;
  Document& operator=(const Document&) = delete;

  const Object& fields() const noexcept { return fields_; }

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
  std::unique_ptr<simdjson::dom::parser> parser_;
  Object fields_;
};

}  // namespace tandem::server
