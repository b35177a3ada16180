#include "text/tokenizer.h"

#include <algorithm>
#include <array>
#include <limits>

#include "base/strings.h"
#include "tandem/error.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/ftfy.h"
#include "text/html.h"
#include "text/splitter.h"
#include "text/unicode.h"
#include "text/vocabulary.h"
#include "text/word_table.h"

namespace tandem::text {
namespace {

constexpr std::u32string_view kHfLiterals[] = {U"<|startoftext|>", U"<|endoftext|>"};
constexpr std::u32string_view kOpenAiLiterals[] = {U"<start_of_text>", U"<end_of_text>"};

/// Length of the one of two literals that `text` has at `at`, 0 if none; as in contractions, a long s may be an s.
std::size_t literal_length(const std::u32string_view (&literals)[2], std::u32string_view text, std::size_t at,
                           bool long_s) {
  for (const std::u32string_view literal : literals) {
    const std::u32string_view here = text.substr(at, literal.size());
    const auto same = [&](char32_t a, char32_t b) { return a == b || (long_s && a == 0x17f && b == U's'); };
    if (here.size() == literal.size() && std::equal(here.begin(), here.end(), literal.begin(), same))
      return literal.size();
  }
  return 0;
}

class ClipTokenizer final : public Tokenizer {
 public:
  ClipTokenizer(Vocabulary vocabulary, const TokenizerOptions& options)
      : options_(options), merges_(vocabulary.merges.size()), words_(vocabulary.ids.size()) {
    if (options.context_length < 2)
      throw Error(Code::invalid_argument,
                  cat("context_length is ", options.context_length, "; it holds at least start and end, 2"));
    for (const auto id : {options.start_id, options.end_id, options.pad_id, options.pool_id})
      if (id && *id < 0) throw Error(Code::invalid_argument, cat("token id ", *id, " is negative"));
    start_id_ = options.start_id.value_or(vocabulary.start_id);
    end_id_ = options.end_id.value_or(vocabulary.end_id);
    // open_clip pads with zeros, whatever they stand for.
    pad_id_ = options.pad_id.value_or(hf() ? vocabulary.pad_id : 0);
    pool_id_ = options.pool_id.value_or(end_id_);
    for (AddedToken& token : vocabulary.added) {
      // Literals in the text mean what the model's rows say.
      if (token.id == vocabulary.start_id)
        token.id = start_id_;
      else if (token.id == vocabulary.end_id)
        token.id = end_id_;
    }
    vocab_size_ = std::max(start_id_, end_id_) + 1;
    for (const auto& [token, id] : vocabulary.ids) vocab_size_ = std::max(vocab_size_, id + 1);
    for (const AddedToken& token : vocabulary.added) vocab_size_ = std::max(vocab_size_, token.id + 1);
    build_texts(vocabulary);
    build_symbols(vocabulary);
    for (std::size_t i = 0; i < vocabulary.merges.size(); ++i) {
      const auto& [left, right] = vocabulary.merges[i];
      merges_.add(vocabulary.ids.at(left), vocabulary.ids.at(right), vocabulary.ranks[i],
                  vocabulary.ids.at(left + right));
    }
    build_words(vocabulary);
    if (hf()) added_ = AddedTokens(vocabulary.added);
    for (int c = 0; c < 128; ++c) {
      ascii_[c] = kind_of(static_cast<char32_t>(c), options.cleaning);
      // What the fast path must not see: the start of a special token, and what ftfy or html.unescape may change.
      const bool plain = c == '\t' || c == '\n' || c == '\f' || c == '\r' || (c >= ' ' && c < 0x7f && c != '&');
      fast_[c] = c != '<' && (hf() ? !added_.starts_with(static_cast<char32_t>(c)) : plain);
    }
  }

  Tokens encode(std::string_view utf8) const override {
    Output out(options_.context_length);
    out.ids.push_back(start_id_);
    if (is_fast(utf8))
      encode_ascii(utf8, out);
    else if (hf())
      encode_hf(utf8, out);
    else
      encode_openai(utf8, out);
    Tokens tokens;
    tokens.truncated = out.full();
    if (tokens.truncated) out.ids.resize(out.most);
    out.ids.push_back(end_id_);
    tokens.ids = std::move(out.ids);
    tokens.pool_index = pool_index(tokens.ids);
    return tokens;
  }

  std::int32_t pad_id() const override { return pad_id_; }
  std::int32_t start_id() const override { return start_id_; }
  std::int32_t end_id() const override { return end_id_; }
  std::int32_t vocab_size() const override { return vocab_size_; }
  int context_length() const override { return options_.context_length; }
  std::string_view text_of(std::int32_t id) const override {
    return id >= 0 && static_cast<std::size_t>(id) < texts_.size() ? texts_[static_cast<std::size_t>(id)] : "";
  }

 private:
  /// Ids so far, start included. Full means that at least one id more than fits is there.
  struct Output {
    explicit Output(int context_length) : most(static_cast<std::size_t>(context_length) - 1) {
      ids.reserve(std::min<std::size_t>(most + 1, 32));
    }
    bool full() const { return ids.size() > most; }
    std::vector<std::int32_t> ids;
    std::size_t most;
    std::vector<std::int32_t> symbols;  // scratch of words that are more than one token
    std::string bytes;                  // scratch of one word
  };

  bool hf() const { return options_.cleaning == Cleaning::hf; }

  void build_texts(const Vocabulary& vocabulary) {
    texts_.resize(static_cast<std::size_t>(vocab_size_));
    for (const auto& [token, id] : vocabulary.ids) {
      std::string_view symbols = token;
      if (symbols.ends_with(kWordEnd)) symbols.remove_suffix(kWordEnd.size());
      if (id >= 0) texts_[static_cast<std::size_t>(id)] = bytes_of_symbols(symbols).value_or(std::string(symbols));
    }
    for (const AddedToken& token : vocabulary.added) {
      if (token.id >= 0) texts_[static_cast<std::size_t>(token.id)] = token.content;
    }
  }

  void build_symbols(const Vocabulary& vocabulary) {
    for (int b = 0; b < 256; ++b) {
      const std::string& symbol = byte_symbols()[b];
      for (const bool last : {false, true}) {
        const std::string token = last ? symbol + std::string(kWordEnd) : symbol;
        const auto it = vocabulary.ids.find(token);
        if (it == vocabulary.ids.end() && !vocabulary.unknown_id)
          throw Error(Code::bad_data, cat(vocabulary.source, ": no token \"", token, "\" for byte ", b,
                                          ", and no unknown token (\"<|endoftext|>\") to stand for it"));
        (last ? last_symbol_ : symbol_)[b] = it != vocabulary.ids.end() ? it->second : *vocabulary.unknown_id;
      }
    }
  }

  void build_words(const Vocabulary& vocabulary) {
    std::vector<std::int32_t> symbols;
    for (const auto& [token, id] : vocabulary.ids) {
      if (!token.ends_with(kWordEnd)) continue;
      const auto word = bytes_of_symbols(std::string_view(token).substr(0, token.size() - kWordEnd.size()));
      if (!word || word->empty() || word->size() > WordTable::kLongest) continue;
      // A token is not always what its own bytes merge to, so ask.
      merge_word(*word, symbols);
      if (symbols.size() == 1 && symbols[0] == id) words_.add(*word, id);
    }
  }

  /// `symbols` becomes the ids of one word.
  void merge_word(std::string_view word, std::vector<std::int32_t>& symbols) const {
    symbols.clear();
    for (const char c : word) symbols.push_back(symbol_[static_cast<unsigned char>(c)]);
    symbols.back() = last_symbol_[static_cast<unsigned char>(word.back())];
    symbols.resize(merge_symbols(symbols, merges_, hf() ? MergeOrder::one_by_one : MergeOrder::all_equal));
  }

  /// Appends one word's ids; false once the output is full.
  bool add_word(std::string_view word, Output& out) const {
    if (word.size() <= WordTable::kLongest) {
      if (const std::int32_t id = words_.find(word); id != WordTable::kNone) {
        out.ids.push_back(id);
        return !out.full();
      }
    }
    merge_word(word, out.symbols);
    // A single word can be a megabyte; no more of it than shows that the text is cut.
    const std::size_t room = std::min(out.symbols.size(), out.most + 1 - out.ids.size());
    out.ids.insert(out.ids.end(), out.symbols.begin(), out.symbols.begin() + static_cast<std::ptrdiff_t>(room));
    return !out.full();
  }

  bool add_word(std::u32string_view word, Output& out) const {
    out.bytes.clear();
    for (const char32_t c : word) append_utf8(c, out.bytes);
    return add_word(std::string_view(out.bytes), out);
  }

  bool is_fast(std::string_view text) const {
    return std::all_of(text.begin(), text.end(), [&](unsigned char c) { return c < 0x80 && fast_[c]; });
  }

  /// ASCII without anything special: both cleanings come down to lower case and words between spaces.
  void encode_ascii(std::string_view text, Output& out) const {
    std::array<char, 512> small;
    std::string large;
    if (text.size() > small.size()) large.resize(text.size());
    char* const lower = large.empty() ? small.data() : large.data();
    std::transform(text.begin(), text.end(), lower,
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    const std::string_view all(lower, text.size());
    const auto kind = [&](std::size_t i) { return ascii_[static_cast<unsigned char>(all[i])]; };
    for (std::size_t at = 0; at < all.size();) {
      const Kind first = kind(at);
      if (first == Kind::none) {
        ++at;
        continue;
      }
      std::size_t length = 1;
      if (first == Kind::letter) {
        while (at + length < all.size() && kind(at + length) == Kind::letter) ++length;
      } else if (first == Kind::other) {
        const std::size_t contraction = contraction_length(all, at, false);
        if (contraction != 0)
          length = contraction;
        else
          while (at + length < all.size() && kind(at + length) == Kind::other) ++length;
      }
      if (!add_word(all.substr(at, length), out)) return;
      at += length;
    }
  }

  /// Words of cleaned text; false once the output is full.
  bool add_hf_words(std::u32string_view text, Output& out) const {
    const auto special = [](std::u32string_view t, std::size_t at) {
      return literal_length(kHfLiterals, t, at, false);
    };
    for_words(text, Cleaning::hf, special, [&](std::u32string_view word) {
      if (word.size() > 2 && word.starts_with(U"<|") && word.ends_with(U"|>") &&
          kind_of(word[2], Cleaning::hf) == Kind::letter) {
        // The literal is one match of the splitting expression, but byte-level splitting then takes it apart.
        return add_word(word.substr(0, 2), out) && add_word(word.substr(2, word.size() - 4), out) &&
               add_word(word.substr(word.size() - 2), out);
      }
      return add_word(word, out);
    });
    return !out.full();
  }

  void encode_hf(std::string_view utf8, Output& out) const {
    const auto add_id = [&](std::int32_t id) {
      out.ids.push_back(id);
      return !out.full();
    };
    added_.split(decode_utf8(utf8), AddedTokens::As::given, add_id, [&](std::u32string_view piece) {
      std::u32string text = clean_hf(piece);
      return added_.split(text, AddedTokens::As::cleaned, add_id,
                          [&](std::u32string_view part) { return add_hf_words(part, out); });
    });
  }

  void encode_openai(std::string_view utf8, Output& out) const {
    std::u32string text = decode_utf8(utf8);
    ftfy_fix_text(text);
    html_unescape(text);
    html_unescape(text);
    // Between here and the words open_clip folds white space; that only separates words, whatever its amount.
    lower_case(text, Whose::py);
    const auto special = [](std::u32string_view t, std::size_t at) {
      return literal_length(kOpenAiLiterals, t, at, true);
    };
    for_words(text, Cleaning::openai, special, [&](std::u32string_view word) {
      if (word == kOpenAiLiterals[0] || word == kOpenAiLiterals[1]) {
        out.ids.push_back(word == kOpenAiLiterals[0] ? start_id_ : end_id_);
        return !out.full();
      }
      return add_word(word, out);
    });
  }

  std::int32_t pool_index(const std::vector<std::int32_t>& ids) const {
    if (options_.pool_rule == PoolRule::largest_id)
      return static_cast<std::int32_t>(std::max_element(ids.begin(), ids.end()) - ids.begin());
    const auto it = std::find(ids.begin(), ids.end(), pool_id_);
    return it == ids.end() ? 0 : static_cast<std::int32_t>(it - ids.begin());
  }

  TokenizerOptions options_;
  std::vector<std::string> texts_;  // by id
  MergeTable merges_;
  WordTable words_;
  AddedTokens added_;
  std::array<std::int32_t, 256> symbol_{}, last_symbol_{};
  std::array<Kind, 128> ascii_{};
  std::array<bool, 128> fast_{};
  std::int32_t start_id_ = 0, end_id_ = 0, pad_id_ = 0, pool_id_ = 0, vocab_size_ = 0;
};

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& path, const TokenizerOptions& options) {
  return std::make_unique<ClipTokenizer>(read_vocabulary(path), options);
}

}  // namespace tandem::text
