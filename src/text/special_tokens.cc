#include "text/special_tokens.h"

#include <algorithm>
#include <map>

#include "base/strings.h"
#include "tandem/error.h"

namespace tandem::text {
namespace {

using nlohmann::json;

constexpr const char* kStart = "<|startoftext|>";
constexpr const char* kEnd = "<|endoftext|>";

/// transformers' named special tokens, in its order; the order decides the ids of tokens that are new.
constexpr const char* kNames[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                  "pad_token", "cls_token", "mask_token"};

[[noreturn]] void bad(const std::string& source, const std::string& what) {
  throw Error(Code::bad_data, cat(source, ": special tokens: ", what));
}

std::string shown(const json& value) {
  std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  if (text.size() > 80) text = text.substr(0, 80) + "…";
  return text;
}

bool flag(const json& object, const char* name, bool otherwise) {
  const auto it = object.find(name);
  return it == object.end() || !it->is_boolean() ? otherwise : it->get<bool>();
}

/// A token as the files write it: a string (special, so matched in the text as given), or an object.
struct Written {
  std::string content;
  bool single_word = false, normalized = false, plain_string = true;
  bool operator==(const Written&) const = default;
};

Written written(const json& value, const std::string& name, const std::string& source) {
  if (value.is_string()) return {value.get<std::string>()};
  const auto content = value.is_object() ? value.find("content") : value.end();
  if (!value.is_object() || content == value.end() || !content->is_string())
    bad(source, cat(name, " is ", shown(value), "; expected a string or an object with \"content\""));
  const bool special = flag(value, "special", false);
  return {content->get<std::string>(), flag(value, "single_word", false), flag(value, "normalized", !special), false};
}

class Collector {
 public:
  explicit Collector(Vocabulary& vocabulary) : vocabulary_(vocabulary) {
    next_ = static_cast<std::int32_t>(vocabulary.ids.size());
  }

  /// Adds or replaces a token; one that the vocabulary knows keeps its id, a new one takes the next.
  void add(const Written& token) {
    if (token.content.empty()) return;
    AddedToken added{token.content, id_of(token.content), token.single_word, token.normalized};
    const auto same = [&](const AddedToken& a) { return a.id == added.id; };
    const auto it = std::find_if(vocabulary_.added.begin(), vocabulary_.added.end(), same);
    if (it == vocabulary_.added.end())
      vocabulary_.added.push_back(std::move(added));
    else
      *it = std::move(added);
  }

  std::int32_t id_of(const std::string& content) {
    if (const auto it = vocabulary_.ids.find(content); it != vocabulary_.ids.end()) return it->second;
    const auto [it, fresh] = new_ids_.emplace(content, next_);
    if (fresh) ++next_;
    return it->second;
  }

 private:
  Vocabulary& vocabulary_;
  std::map<std::string, std::int32_t> new_ids_;
  std::int32_t next_;
};

json parse_object(const std::string& text, const std::string& source) {
  if (text.empty()) return json::object();
  json value = parse_json(text, source);
  if (!value.is_object()) bad(source, cat("expected an object, found ", value.type_name()));
  return value;
}

}  // namespace

void read_special_tokens(const SpecialTokenFiles& files, const json& added_tokens, Vocabulary& vocabulary) {
  const std::string& source = vocabulary.source;
  json config = parse_object(files.config, source + ", tokenizer_config.json beside it");
  const json special_map = parse_object(files.special_map, source + ", special_tokens_map.json beside it");
  const json added_file = parse_object(files.added, source + ", added_tokens.json beside it");

  // Tokens that come with an id. The id only orders them: what counts is their place in the vocabulary.
  std::map<std::int64_t, Written> by_id;
  if (const auto decoder = config.find("added_tokens_decoder"); decoder != config.end() && decoder->is_object()) {
    for (const auto& [key, value] : decoder->items()) {
      if (key.empty() || key.size() > 9 || key.find_first_not_of("0123456789") != std::string::npos)
        bad(source, cat("added_tokens_decoder has key \"", key, "\"; expected an id"));
      by_id[std::stol(key)] = written(value, "added_tokens_decoder's " + key, source);
    }
  } else {
    for (const auto& [key, value] : special_map.items()) {
      // An object here is special by its place; that does not change its "normalized".
      config[key] = value;
    }
    for (const auto& [content, id] : added_file.items()) {
      if (!id.is_number_integer()) bad(source, cat("added_tokens.json gives \"", content, "\" the id ", shown(id)));
      bool special = false;
      for (const char* name : kNames)
        special = special || (config.contains(name) && !config[name].is_null() &&
                              written(config[name], name, source).content == content);
      by_id[id.get<std::int64_t>()] = {content, false, !special, false};
    }
    if (!added_tokens.is_null()) {
      if (!added_tokens.is_array()) bad(source, cat("added_tokens is ", added_tokens.type_name(), ", not a list"));
      for (const json& token : added_tokens) {
        const auto id = token.is_object() ? token.find("id") : token.end();
        if (!token.is_object() || id == token.end() || !id->is_number_integer())
          bad(source, cat("added token ", shown(token), " has no whole number \"id\""));
        by_id[id->get<std::int64_t>()] = written(token, "added_tokens", source);
      }
    }
  }

  Collector collector(vocabulary);
  std::vector<std::string> known;
  for (const auto& [id, token] : by_id) {
    collector.add(token);
    known.push_back(token.content);
  }
  const auto name_of = [&](const char* name, const char* otherwise) -> std::optional<Written> {
    const auto it = config.find(name);
    if (it != config.end() && !it->is_null()) return written(*it, name, source);
    if (otherwise == nullptr) return std::nullopt;
    return Written{otherwise};
  };
  std::map<std::string, Written> named;
  std::vector<Written> fresh;
  const auto offer = [&](const Written& token) {
    if (std::find(known.begin(), known.end(), token.content) != known.end()) return;
    if (std::find(fresh.begin(), fresh.end(), token) == fresh.end()) fresh.push_back(token);
  };
  for (const char* name : kNames) {
    const bool start = std::string_view(name) == "bos_token";
    const bool end = std::string_view(name) == "eos_token" || std::string_view(name) == "unk_token" ||
                     std::string_view(name) == "pad_token";
    if (const auto token = name_of(name, start ? kStart : end ? kEnd : nullptr)) {
      named[name] = *token;
      offer(*token);
    }
  }
  for (const auto& [key, value] : config.items()) {
    const bool own = key.ends_with("_token") && value.is_string() &&
                     std::none_of(std::begin(kNames), std::end(kNames), [&, k = key](const char* n) { return k == n; });
    if (own) offer(written(value, key, source));
  }
  // Version 4 of transformers wrote the longer name.
  const bool has_extra = config.contains("extra_special_tokens") && !config["extra_special_tokens"].empty();
  if (const json extra = config.value(has_extra ? "extra_special_tokens" : "additional_special_tokens", json());
      !extra.is_null()) {
    if (!extra.is_array() && !extra.is_object())
      bad(source, cat("extra_special_tokens is ", shown(extra), ", not a list"));
    for (const json& token : extra) {
      Written w = written(token, "extra_special_tokens", source);
      offer(w);
    }
  }
  for (const Written& token : fresh) collector.add(token);

  vocabulary.start_id = collector.id_of(named["bos_token"].content);
  vocabulary.end_id = collector.id_of(named["eos_token"].content);
  vocabulary.pad_id = collector.id_of(named["pad_token"].content);
  if (const auto it = vocabulary.ids.find(named["unk_token"].content); it != vocabulary.ids.end())
    vocabulary.unknown_id = it->second;
}

}  // namespace tandem::text
