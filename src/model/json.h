// Reading JSON files whose mistakes must be named: which file, which key, what stood there.
#pragma once

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::model {

using Json = nlohmann::json;

/// Parses a JSON object. `where` names it in messages. Throws bad_data for bad syntax, a duplicated key or anything
/// but an object.
Json parse_json_object(std::string_view text, const std::string& where);

/// Reads and parses a file. Throws not_found, too_large (beyond 64 MiB) and what parse_json_object throws.
Json read_json_object(const std::filesystem::path& file);

/// Typed access to one object's members. A member that is missing or null has its default; one of the wrong type or out
/// of range is an Error (bad_data) that names file, key and value. Remembers which keys were asked for.
class Fields {
 public:
  Fields(const Json& object, std::string where) : object_(object), where_(std::move(where)) {}

  /// Missing and null are the same: both mean the default.
  bool has(std::string_view key) const;
  const Json* find(std::string_view key) const;  ///< null when missing or null
  bool is_null(std::string_view key) const;      ///< there, and null
  int integer(std::string_view key, int fallback, int least = 1, int most = 1 << 24) const;
  double number(std::string_view key, double fallback) const;
  bool boolean(std::string_view key, bool fallback) const;
  std::string text(std::string_view key, std::string_view fallback) const;
  /// The member's object; an empty one when it is missing.
  Fields object(std::string_view key) const;
  /// A side that may be written as one number or as two equal ones; two different ones are refused by name.
  int square(std::string_view key, int fallback) const;
  /// Three numbers, or one for all three.
  void triple(std::string_view key, float (&out)[3]) const;

  /// Marks keys as known without reading them.
  void ignore(std::initializer_list<std::string_view> keys) const;
  /// Keys that nobody asked for, and whose value is not null.
  std::vector<std::string> unknown() const;

  const std::string& where() const noexcept { return where_; }
  /// "config.json: vision_config.hidden_size"
  std::string name(std::string_view key) const {
    return where_ + (where_.ends_with('.') ? "" : ": ") + std::string(key);
  }
  [[noreturn]] void reject(std::string_view key, const Json& value, std::string_view expected) const;

 private:
  const Json& object_;
  std::string where_;
  mutable std::set<std::string, std::less<>> asked_;
};

/// A value for messages: compact and cut to a readable length.
std::string show(const Json& value);

}  // namespace tandem::model
