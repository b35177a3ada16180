// What tokenizer files say, read and checked: tokens, merges, special tokens. Knows files, knows no text.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace tandem::text {

/// A token that is cut out of the text before it is split into words (tokenizers' AddedToken). Whether it swallows
/// neighbouring spaces (lstrip, rstrip) is not kept: CLIP drops spaces anyway.
struct AddedToken {
  std::string content;
  std::int32_t id = 0;
  bool single_word = false;  ///< only where no word character touches it
  bool normalized = false;   ///< looked for in the cleaned text (and cleaned itself), not in the text as given
};

struct Vocabulary {
  std::string source;  ///< the file that gave `ids`, for messages
  /// Byte-level strings (each character one byte, see byte_of_symbol) to ids.
  std::unordered_map<std::string, std::int32_t> ids;
  std::vector<std::pair<std::string, std::string>> merges;  ///< best first
  std::vector<std::uint32_t> ranks;                         ///< of `merges`, ascending
  std::vector<AddedToken> added;
  std::int32_t start_id = 0, end_id = 0, pad_id = 0;
  std::optional<std::int32_t> unknown_id;  ///< stands for a byte that the vocabulary lacks
};

/// Byte-level strings write every byte as one printable character: the 256 UTF-8 strings, by byte.
const std::vector<std::string>& byte_symbols();

/// Bytes that a byte-level string stands for, or nothing if a character is none of the 256.
std::optional<std::string> bytes_of_symbols(std::string_view symbols);

/// Ends the last symbol of a word.
inline constexpr std::string_view kWordEnd = "</w>";

/// Reads what `path` names, see load_tokenizer(). Throws Error naming the file and the value.
Vocabulary read_vocabulary(const std::filesystem::path& path);

/// The files' formats by themselves, from memory; `source` names them in messages.
/// tokenizer.json as transformers saves it; `config` and `special_map` are tokenizer_config.json's and
/// special_tokens_map.json's texts, `added` added_tokens.json's, empty where there is none.
struct SpecialTokenFiles {
  std::string config, special_map, added;
};
Vocabulary parse_tokenizer_json(std::string_view text, const SpecialTokenFiles& special, const std::string& source);
Vocabulary parse_vocab_and_merges(std::string_view vocab, std::string_view merges, const SpecialTokenFiles& special,
                                  const std::string& vocab_source, const std::string& merges_source);
/// OpenAI's list of merges, unpacked; reads it as open_clip does: one header line, at most 48,894 merges.
Vocabulary parse_openai_merges(std::string_view text, const std::string& source);

}  // namespace tandem::text
