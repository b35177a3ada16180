#include "text/added_tokens.h"

#include <algorithm>

#include "text/unicode.h"

namespace tandem::text {

std::u32string clean_hf(std::u32string_view text) {
  std::u32string out(text);
  normalise_nfc(out, Whose::hf);
  std::size_t end = 0;
  bool space = false;
  for (const char32_t c : out) {
    const bool here = (flags_of(c) & kHfSpace) != 0;
    if (!(here && space)) out[end++] = here ? U' ' : c;
    space = here;
  }
  out.resize(end);
  lower_case(out, Whose::hf);
  return out;
}

AddedTokens::AddedTokens(const std::vector<AddedToken>& tokens) {
  for (const AddedToken& token : tokens) {
    std::u32string content = decode_utf8(token.content);
    if (token.normalized) content = clean_hf(content);
    if (content.empty()) continue;
    const char32_t c = content[0];
    (token.normalized ? cleaned_ : given_)[c].push_back({std::move(content), token.id, token.single_word});
  }
  for (Set* set : {&given_, &cleaned_}) {
    for (auto& [c, patterns] : *set) {
      std::stable_sort(patterns.begin(), patterns.end(),
                       [](const Pattern& a, const Pattern& b) { return a.content.size() > b.content.size(); });
      if (c >= 128) continue;
      first_[c] = true;
      if (set == &cleaned_ && c >= U'a' && c <= U'z') first_[c - 32] = true;
      // A cleaned token that starts with a space can come of any white space.
      if (set == &cleaned_ && c == U' ') std::fill(first_ + 9, first_ + 14, true);
    }
  }
}

bool AddedTokens::split(std::u32string_view text, As as, const std::function<bool(std::int32_t)>& on_id,
                        const std::function<bool(std::u32string_view)>& on_piece) const {
  const Set& set = as == As::given ? given_ : cleaned_;
  std::size_t piece = 0;
  const auto word = [&](std::size_t i) { return (flags_of(text[i]) & kHfWord) != 0; };
  for (std::size_t at = 0; !set.empty() && at < text.size();) {
    const auto it = set.find(text[at]);
    const Pattern* found = nullptr;
    if (it != set.end())
      for (const Pattern& pattern : it->second)
        if (found == nullptr && text.substr(at, pattern.content.size()) == pattern.content) found = &pattern;
    if (found == nullptr) {
      ++at;
      continue;
    }
    const std::size_t end = at + found->content.size();
    // A match that is not a word by itself is passed over whole, shorter ones inside it are not tried.
    const bool counts = !found->single_word || ((at == 0 || !word(at - 1)) && (end == text.size() || !word(end)));
    if (counts) {
      if (piece < at && !on_piece(text.substr(piece, at - piece))) return false;
      if (!on_id(found->id)) return false;
      piece = end;
    }
    at = end;
  }
  return piece >= text.size() || on_piece(text.substr(piece));
}

}  // namespace tandem::text
