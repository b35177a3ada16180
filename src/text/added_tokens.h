// Cutting added tokens out of a text, as the tokenizers library does.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/vocabulary.h"

namespace tandem::text {

/// tokenizers' normaliser of CLIP: NFC, runs of white space to one space, lower case char by char.
std::u32string clean_hf(std::u32string_view text);

class AddedTokens {
 public:
  enum class As { given, cleaned };  ///< which text is searched: the user's, or the cleaned one

  AddedTokens() = default;
  explicit AddedTokens(const std::vector<AddedToken>& tokens);

  /// Whether some token could begin with this ASCII character of the user's text.
  bool starts_with(char32_t c) const noexcept { return c < 128 && first_[c]; }

  /// Walks through `text`: on_id(id) for each token found (leftmost, then longest), on_piece(text between). Either
  /// returns false to stop; split then returns false too.
  bool split(std::u32string_view text, As as, const std::function<bool(std::int32_t)>& on_id,
             const std::function<bool(std::u32string_view)>& on_piece) const;

 private:
  struct Pattern {
    std::u32string content;
    std::int32_t id;
    bool single_word;
  };
  /// Patterns by first code point, longest first.
  using Set = std::unordered_map<char32_t, std::vector<Pattern>>;

  Set given_, cleaned_;
  bool first_[128] = {};
};

}  // namespace tandem::text
