// Text to token ids, as CLIP's two reference tokenizers do it.
//
// Interface and factory only; models ask for ids and a pooling position and know nothing of byte pairs.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

namespace tandem::text {

/// Whose cleaning and word splitting is reproduced, id for id.
enum class Cleaning {
  hf,      ///< transformers 5 CLIPTokenizer: NFC, Rust lower-casing, Oniguruma classes, special tokens of the files
  openai,  ///< open_clip 3.3 SimpleTokenizer: ftfy, html.unescape twice, str.lower, `regex` classes, <start_of_text>
};

/// Which row of the text tower is pooled.
enum class PoolRule {
  first_end,   ///< first position that holds TokenizerOptions::pool_id, position 0 if none does (as transformers)
  largest_id,  ///< first position of the largest id (OpenCLIP, and transformers' legacy eos_token_id 2)
};

/// Ids of one text: start, content, end; never padded, never more than context_length().
struct Tokens {
  std::vector<std::int32_t> ids;
  std::int32_t pool_index = 0;  ///< row to pool, counted from 0 in `ids`
  bool truncated = false;       ///< content was cut to fit the context; the end id is always kept
};

struct TokenizerOptions {
  Cleaning cleaning = Cleaning::hf;
  int context_length = 77;  ///< most ids in a text, start and end included; at least 2
  PoolRule pool_rule = PoolRule::first_end;
  std::optional<std::int32_t> pool_id = std::nullopt;  ///< what first_end looks for; the end id if absent
  /// Replace what the files say, for a model whose embedding rows are numbered otherwise.
  std::optional<std::int32_t> start_id = std::nullopt;
  std::optional<std::int32_t> end_id = std::nullopt;
  std::optional<std::int32_t> pad_id = std::nullopt;
};

/// Immutable after loading: any number of threads may call any member.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  /// Ids of a UTF-8 text. Total: every byte string has ids. Each maximal invalid subpart of bad UTF-8 counts as one
  /// U+FFFD, as bytes.decode(errors="replace") does. O(n log n) in the text's length.
  virtual Tokens encode(std::string_view utf8) const = 0;
  /// What callers fill short rows with: the pad token's id (hf), 0 (openai), or the option.
  virtual std::int32_t pad_id() const = 0;
  virtual std::int32_t start_id() const = 0;
  virtual std::int32_t end_id() const = 0;
  /// One more than the largest id that encode() can give; a model's embedding must have at least as many rows.
  virtual std::int32_t vocab_size() const = 0;
  virtual int context_length() const = 0;
  /// The bytes that a token stands for, without the end of a word ("cat" of "cat</w>"); a special token's literal;
  /// empty for an id that is none. Bytes of one character may be spread over several tokens.
  virtual std::string_view text_of(std::int32_t id) const = 0;
};

/// Loads a tokenizer from a folder with tokenizer.json, or vocab.json and merges.txt (special tokens from
/// tokenizer_config.json, special_tokens_map.json and added_tokens.json where they are), or
/// bpe_simple_vocab_16e6.txt.gz; or from one of those files itself. In a folder vocab.json goes before tokenizer.json
/// only where tokenizer.json is missing. Throws Error: not_found, bad_data or unsupported, naming the file and the
/// value.
std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& path, const TokenizerOptions& options);

/// Whether load_tokenizer() would find files in `folder`; says nothing about their contents.
bool has_tokenizer(const std::filesystem::path& folder);

}  // namespace tandem::text
