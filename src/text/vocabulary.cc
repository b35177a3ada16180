#include "text/vocabulary.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "tandem/error.h"
#include "text/special_tokens.h"
#include "text/unicode.h"

namespace tandem::text {
namespace {

using nlohmann::json;

constexpr std::int32_t kMostTokens = 1 << 24;  // far above any real vocabulary; bounds what a hostile file can ask for
constexpr std::size_t kOpenAiMerges = 49152 - 256 - 2;  // CLIP's own vocabulary; its file lists more

[[noreturn]] void bad(const std::string& source, const std::string& what) {
  throw Error(Code::bad_data, cat(source, ": ", what));
}

std::int32_t checked_id(const json& value, const std::string& token, const std::string& source) {
  if (!value.is_number_integer() || value < 0 || value >= kMostTokens)
    bad(source,
        cat("token \"", token, "\" has id ", value.dump(), "; ids are whole numbers from 0 to ", kMostTokens - 1));
  return value.get<std::int32_t>();
}

void read_ids(const json& vocab, Vocabulary& out) {
  if (!vocab.is_object()) bad(out.source, cat("the vocabulary is ", vocab.type_name(), ", not an object of token: id"));
  out.ids.reserve(vocab.size());
  for (const auto& [token, id] : vocab.items()) out.ids.emplace(token, checked_id(id, token, out.source));
}

/// Every id from 0 on once: a gap or a repeat means that the file and the model's embedding rows disagree.
void check_ids(const Vocabulary& v) {
  if (v.ids.empty()) bad(v.source, "the vocabulary is empty");
  std::vector<const std::string*> owner(v.ids.size());
  for (const auto& [token, id] : v.ids) {
    if (static_cast<std::size_t>(id) >= owner.size())
      bad(v.source,
          cat("ids are not contiguous: token \"", token, "\" has id ", id, " among ", v.ids.size(), " tokens"));
    if (owner[id] != nullptr) bad(v.source, cat("tokens \"", *owner[id], "\" and \"", token, "\" both have id ", id));
    owner[id] = &token;
  }
}

void add_merge(Vocabulary& v, std::string left, std::string right, const std::string& source) {
  for (const std::string& part : {left, right, left + right})
    if (!v.ids.contains(part))
      bad(source, cat("merge ", v.merges.size(), " (\"", left, " ", right, "\") needs token \"", part,
                      "\", which the vocabulary lacks"));
  v.ranks.push_back(static_cast<std::uint32_t>(v.merges.size()));
  v.merges.emplace_back(std::move(left), std::move(right));
}

/// "a b" as the two parts around its only space.
std::pair<std::string, std::string> split_merge(std::string_view line, const std::string& source, std::size_t number) {
  const std::size_t space = line.find(' ');
  if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos)
    bad(source, cat("merge ", number, " is \"", line, "\"; expected two symbols with one space between"));
  return {std::string(line.substr(0, space)), std::string(line.substr(space + 1))};
}

/// Calls take(line) for each line; a last line without a newline counts, an empty one after it does not.
template <class Take>
void for_lines(std::string_view text, Take&& take) {
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    take(line);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
}

}  // namespace

const std::vector<std::string>& byte_symbols() {
  static const std::vector<std::string> symbols = [] {
    // Bytes that print in Latin-1 stand for themselves, the others for U+0100 on, in order (OpenAI's byte encoder).
    std::vector<std::string> out(256);
    char32_t next = 0x100;
    for (char32_t b = 0; b < 256; ++b) {
      const bool prints = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
      append_utf8(prints ? b : next++, out[b]);
    }
    return out;
  }();
  return symbols;
}

std::optional<std::string> bytes_of_symbols(std::string_view symbols) {
  static const auto bytes = [] {
    std::unordered_map<char32_t, char> map;
    for (int b = 0; b < 256; ++b) map.emplace(decode_utf8(byte_symbols()[b])[0], static_cast<char>(b));
    return map;
  }();
  std::string out;
  for (char32_t c : decode_utf8(symbols)) {
    const auto it = bytes.find(c);
    if (it == bytes.end()) return std::nullopt;
    out += it->second;
  }
  return out;
}

json parse_json(std::string_view text, const std::string& source) {
  json value = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (value.is_discarded()) {
    try {
      value = json::parse(text);
    } catch (const json::parse_error& e) {
      bad(source, cat("not valid JSON near byte ", e.byte));
    } catch (const json::exception&) {
      bad(source, "not valid JSON: a number is out of range");
    }
  }
  return value;
}

Vocabulary parse_tokenizer_json(std::string_view text, const SpecialTokenFiles& special, const std::string& source) {
  Vocabulary out;
  out.source = source;
  const json root = parse_json(text, source);
  const auto model = root.is_object() ? root.find("model") : root.end();
  if (!root.is_object() || model == root.end() || !model->is_object()) bad(source, "no object \"model\"");
  const std::string type = model->contains("type") ? (*model)["type"].dump() : "\"BPE\"";
  if (type != "\"BPE\"")
    throw Error(Code::unsupported, cat(source, ": model type is ", type, "; CLIP's tokenizer is \"BPE\""));
  if (const auto suffix = model->find("end_of_word_suffix"); suffix == model->end() || *suffix != std::string(kWordEnd))
    throw Error(Code::unsupported,
                cat(source, ": end_of_word_suffix is ", suffix == model->end() ? "missing" : suffix->dump(),
                    "; CLIP's is \"", kWordEnd, "\", this is another family's tokenizer"));
  const auto vocab = model->find("vocab");
  const auto merges = model->find("merges");
  if (vocab == model->end()) bad(source, "no \"model.vocab\"");
  if (merges == model->end() || !merges->is_array()) bad(source, "no list \"model.merges\"");
  read_ids(*vocab, out);
  check_ids(out);
  out.merges.reserve(merges->size());
  for (const json& merge : *merges) {
    const std::size_t number = out.merges.size();
    if (merge.is_string()) {
      auto [left, right] = split_merge(merge.get_ref<const std::string&>(), source, number);
      add_merge(out, std::move(left), std::move(right), source);
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      add_merge(out, merge[0].get<std::string>(), merge[1].get<std::string>(), source);
    } else {
      bad(source, cat("merge ", number, " is ", merge.dump(-1, ' ', false, json::error_handler_t::replace),
                      "; expected \"a b\" or [\"a\", \"b\"]"));
    }
  }
  const auto added = root.find("added_tokens");
  read_special_tokens(special, added == root.end() ? json() : *added, out);
  return out;
}

Vocabulary parse_vocab_and_merges(std::string_view vocab, std::string_view merges, const SpecialTokenFiles& special,
                                  const std::string& vocab_source, const std::string& merges_source) {
  Vocabulary out;
  out.source = vocab_source;
  read_ids(parse_json(vocab, vocab_source), out);
  check_ids(out);
  for_lines(merges, [&](std::string_view line) {
    if (line.starts_with("#version")) return;
    auto [left, right] = split_merge(line, merges_source, out.merges.size());
    add_merge(out, std::move(left), std::move(right), merges_source);
  });
  read_special_tokens(special, json(), out);
  return out;
}

Vocabulary parse_openai_merges(std::string_view text, const std::string& source) {
  Vocabulary out;
  out.source = source;
  // open_clip lists tokens first and numbers them after, so that a token named twice keeps its last place: here too.
  std::int32_t next = 0;
  const auto put = [&](std::string token) { out.ids.insert_or_assign(std::move(token), next++); };
  // Its order of bytes: those that print first, then the others.
  std::vector<std::string> symbols;
  for (const bool plain : {true, false})
    for (const std::string& symbol : byte_symbols())
      if ((decode_utf8(symbol)[0] < 0x100) == plain) symbols.push_back(symbol);
  for (const std::string& symbol : symbols) put(symbol);
  for (const std::string& symbol : symbols) put(symbol + std::string(kWordEnd));
  if (text.find('\n') == std::string_view::npos)
    bad(source, "no line of merges; expected OpenAI's bpe_simple_vocab_16e6.txt.gz");
  text.remove_prefix(text.find('\n') + 1);
  // A newline at the end starts one more, empty, line, which takes an id (open_clip splits at newlines and does not
  // look).
  for (std::size_t i = 0; i < kOpenAiMerges; ++i) {
    const std::size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    std::vector<std::string> parts;
    std::string part, joined;
    for (const char32_t c : decode_utf8(line) + U' ') {
      if ((flags_of(c) & kPySpace) == 0) {
        append_utf8(c, part);
      } else if (!part.empty()) {
        joined += part;
        parts.push_back(std::move(part));
        part.clear();
      }
    }
    put(joined);
    if (parts.size() == 2) {
      out.ranks.push_back(static_cast<std::uint32_t>(i));
      out.merges.emplace_back(parts[0], parts[1]);
    }
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  if (out.merges.empty()) bad(source, "no merges; expected OpenAI's bpe_simple_vocab_16e6.txt.gz");
  for (const auto& [left, right] : out.merges)
    for (const std::string& symbol : {left, right})
      if (!out.ids.contains(symbol))
        bad(source, cat("merge \"", left, " ", right, "\" needs \"", symbol, "\", which nothing makes"));
  out.start_id = next++;
  out.end_id = out.pad_id = next++;
  out.unknown_id = std::nullopt;
  out.added = {{"<|startoftext|>", out.start_id, false, false}, {"<|endoftext|>", out.end_id, false, false}};
  return out;
}

}  // namespace tandem::text
