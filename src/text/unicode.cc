#include "text/unicode.h"

#include <algorithm>
#include <array>
#include <unordered_map>
#include <vector>

namespace tandem::text {
namespace {

struct Run {
  char32_t first;
  std::uint32_t value;
};
struct LowerRun {
  char32_t first, last, step;
  std::int32_t change;
  std::uint8_t whose;
};
struct Decomposition {
  char32_t code_point;
  std::uint8_t whose;
  char32_t parts[4];
};
struct CombiningClass {
  char32_t code_point;
  std::uint8_t whose, value;
};
struct Composition {
  char32_t first, second;
  std::uint8_t whose;
  char32_t result;
};
struct Replacement {
  char32_t code_point;
  const char* text;
};

#include "text/unicode_tables.inc"

constexpr char32_t kEnd = 0x110000;
constexpr char32_t kReplacement = 0xfffd;

// Hangul syllables compose by arithmetic (The Unicode Standard, section 3.12).
constexpr char32_t kHangul = 0xac00, kJamoL = 0x1100, kJamoV = 0x1161, kJamoT = 0x11a7;
constexpr char32_t kCountL = 19, kCountV = 21, kCountT = 28, kCountS = kCountL * kCountV * kCountT;

/// A value per code point in blocks of 128, equal blocks shared.
template <class T>
class Trie {
 public:
  explicit Trie(const std::vector<T>& values) {
    std::unordered_map<std::string, std::uint16_t> seen;
    for (std::size_t block = 0; block < kEnd / kBlock; ++block) {
      const T* begin = values.data() + block * kBlock;
      if (block > 0 && std::equal(begin, begin + kBlock, begin - kBlock)) {  // most of Unicode repeats itself
        index_[block] = index_[block - 1];
        continue;
      }
      const std::string key(reinterpret_cast<const char*>(begin), kBlock * sizeof(T));
      const auto [it, fresh] = seen.emplace(key, static_cast<std::uint16_t>(seen.size()));
      if (fresh) blocks_.insert(blocks_.end(), begin, begin + kBlock);
      index_[block] = it->second;
    }
  }
  T operator[](char32_t c) const noexcept {
    return c < kEnd ? blocks_[std::size_t{index_[c / kBlock]} * kBlock + c % kBlock] : T{};
  }

 private:
  static constexpr std::size_t kBlock = 128;
  std::array<std::uint16_t, kEnd / kBlock> index_{};
  std::vector<T> blocks_;
};

Trie<std::uint16_t> make_flags() {
  std::vector<std::uint16_t> values(kEnd);
  for (std::size_t i = 0; i < std::size(kFlagRuns); ++i) {
    const char32_t last = i + 1 < std::size(kFlagRuns) ? kFlagRuns[i + 1].first : kEnd;
    std::fill(values.begin() + kFlagRuns[i].first, values.begin() + last,
              static_cast<std::uint16_t>(kFlagRuns[i].value));
  }
  return Trie<std::uint16_t>(values);
}

/// Everything about one side's letters that is not a flag.
struct Letters {
  Trie<std::int32_t> lower;
  Trie<std::uint8_t> combining;
  std::unordered_map<char32_t, const Decomposition*> decompositions;
  std::unordered_map<std::uint64_t, char32_t> compositions;
};

Letters make_letters(Whose whose) {
  const auto mine = [&](std::uint8_t owners) { return (owners & static_cast<std::uint8_t>(whose)) != 0; };
  std::vector<std::int32_t> lower(kEnd);
  for (const LowerRun& run : kLowerRuns)
    if (mine(run.whose))
      for (char32_t c = run.first; c <= run.last; c += run.step) lower[c] = run.change;
  std::vector<std::uint8_t> combining(kEnd);
  for (const CombiningClass& c : kCombiningClasses)
    if (mine(c.whose)) combining[c.code_point] = c.value;
  Letters letters{Trie<std::int32_t>(lower), Trie<std::uint8_t>(combining), {}, {}};
  for (const Decomposition& d : kDecompositions)
    if (mine(d.whose)) letters.decompositions.emplace(d.code_point, &d);
  for (const Composition& c : kCompositions)
    if (mine(c.whose)) letters.compositions.emplace(std::uint64_t{c.first} << 32 | c.second, c.result);
  return letters;
}

// Built once, on first use, never changed after: constants in all but storage.
const Trie<std::uint16_t>& flags() {
  static const Trie<std::uint16_t> instance = make_flags();
  return instance;
}

const Letters& letters_of(Whose whose) {
  static const Letters hf = make_letters(Whose::hf);
  static const Letters py = make_letters(Whose::py);
  return whose == Whose::hf ? hf : py;
}

void append_decomposed(char32_t c, const Letters& letters, std::u32string& out) {
  if (c >= kHangul && c < kHangul + kCountS) {
    const char32_t s = c - kHangul;
    out += static_cast<char32_t>(kJamoL + s / (kCountV * kCountT));
    out += kJamoV + s / kCountT % kCountV;
    if (s % kCountT != 0) out += kJamoT + s % kCountT;
  } else if (const auto it = letters.decompositions.find(c); it != letters.decompositions.end()) {
    for (char32_t part : it->second->parts)
      if (part != 0) out += part;
  } else {
    out += c;
  }
}

/// The one code point that a and b compose to, or 0.
char32_t compose(char32_t a, char32_t b, const Letters& letters) {
  if (a >= kJamoL && a < kJamoL + kCountL && b >= kJamoV && b < kJamoV + kCountV)
    return kHangul + ((a - kJamoL) * kCountV + (b - kJamoV)) * kCountT;
  if (a >= kHangul && a < kHangul + kCountS && (a - kHangul) % kCountT == 0 && b > kJamoT && b < kJamoT + kCountT)
    return a + (b - kJamoT);
  const auto it = letters.compositions.find(std::uint64_t{a} << 32 | b);
  return it == letters.compositions.end() ? 0 : it->second;
}

/// Decompose, order marks, compose: the whole of NFC for one stretch that nothing outside can touch.
std::u32string normalised(std::u32string_view stretch, const Letters& letters) {
  std::u32string text;
  for (char32_t c : stretch) append_decomposed(c, letters, text);
  const auto mark = [&](char32_t c) { return letters.combining[c] != 0; };
  for (auto it = text.begin(); it != text.end();) {
    const auto first = std::find_if(it, text.end(), mark);
    it = std::find_if_not(first, text.end(), mark);
    std::stable_sort(first, it, [&](char32_t a, char32_t b) { return letters.combining[a] < letters.combining[b]; });
  }
  std::size_t out = 0, starter = std::u32string::npos;
  int last_class = -1;  // of the last kept code point after the starter; -1: the starter itself is the last
  for (const char32_t c : text) {
    const int own = letters.combining[c];
    if (starter != std::u32string::npos && last_class < own) {
      if (const char32_t composed = compose(text[starter], c, letters)) {
        text[starter] = composed;
        continue;
      }
    }
    if (own == 0) {
      starter = out;
      last_class = -1;
    } else {
      last_class = own;
    }
    text[out++] = c;
  }
  text.resize(out);
  return text;
}

template <std::size_t N>
void replace_single(std::u32string& text, const Replacement (&table)[N]) {
  const auto find = [&](char32_t c) -> const Replacement* {
    if (c < table[0].code_point || c > table[N - 1].code_point) return nullptr;
    const auto it =
        std::lower_bound(table, table + N, c, [](const Replacement& r, char32_t key) { return r.code_point < key; });
    return it != table + N && it->code_point == c ? it : nullptr;
  };
  if (std::none_of(text.begin(), text.end(), [&](char32_t c) { return find(c) != nullptr; })) return;
  std::u32string out;
  out.reserve(text.size() + 8);
  for (char32_t c : text) {
    if (const Replacement* r = find(c))
      out += decode_utf8(r->text);
    else
      out += c;
  }
  text = std::move(out);
}

}  // namespace

std::uint16_t flags_of(char32_t c) noexcept {
  static const Trie<std::uint16_t>& table = flags();
  return table[c];
}

std::u32string decode_utf8(std::string_view bytes) {
  std::u32string out;
  out.reserve(bytes.size());
  const auto* p = reinterpret_cast<const unsigned char*>(bytes.data());
  const auto* const end = p + bytes.size();
  while (p < end) {
    const unsigned lead = *p;
    if (lead < 0x80) {
      out += static_cast<char32_t>(lead);
      ++p;
      continue;
    }
    // The second byte's range is what excludes overlong forms, surrogates and anything above U+10FFFF.
    unsigned more = 0, low = 0x80, high = 0xbf;
    char32_t c = 0;
    if (lead >= 0xc2 && lead <= 0xdf) {
      more = 1, c = lead & 0x1f;
    } else if (lead >= 0xe0 && lead <= 0xef) {
      more = 2, c = lead & 0x0f;
      if (lead == 0xe0) low = 0xa0;
      if (lead == 0xed) high = 0x9f;
    } else if (lead >= 0xf0 && lead <= 0xf4) {
      more = 3, c = lead & 0x07;
      if (lead == 0xf0) low = 0x90;
      if (lead == 0xf4) high = 0x8f;
    }
    ++p;
    bool good = more != 0;
    for (; more != 0; --more, low = 0x80, high = 0xbf) {
      if (p == end || *p < low || *p > high) {
        good = false;
        break;
      }
      c = c << 6 | (*p++ & 0x3fu);
    }
    out += good ? c : kReplacement;
  }
  return out;
}

void append_utf8(char32_t c, std::string& out) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xc0 | c >> 6);
    out += static_cast<char>(0x80 | (c & 0x3f));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xe0 | c >> 12);
    out += static_cast<char>(0x80 | (c >> 6 & 0x3f));
    out += static_cast<char>(0x80 | (c & 0x3f));
  } else {
    out += static_cast<char>(0xf0 | c >> 18);
    out += static_cast<char>(0x80 | (c >> 12 & 0x3f));
    out += static_cast<char>(0x80 | (c >> 6 & 0x3f));
    out += static_cast<char>(0x80 | (c & 0x3f));
  }
}

std::string encode_utf8(std::u32string_view text) {
  std::string out;
  out.reserve(text.size());
  for (char32_t c : text) append_utf8(c, out);
  return out;
}

void normalise_nfc(std::u32string& text, Whose whose) {
  const std::uint16_t flag = whose == Whose::hf ? kHfNormal : kPyNormal;
  const auto touched = [&](char32_t c) { return c >= 0x300 && (flags_of(c) & flag) != 0; };
  const auto first = std::find_if(text.begin(), text.end(), touched);
  if (first == text.end()) return;
  const Letters& letters = letters_of(whose);
  std::u32string out(text.begin(), first);
  for (auto it = first; it != text.end();) {
    // A stretch: the untouched code point before (it may take a mark), then touched ones.
    const auto stop = std::find_if_not(it, text.end(), touched);
    std::u32string stretch;
    if (!out.empty()) {
      stretch += out.back();
      out.pop_back();
    }
    stretch.append(it, stop);
    out += normalised(stretch, letters);
    it = std::find_if(stop, text.end(), touched);
    out.append(stop, it);
  }
  text = std::move(out);
}

void lower_case(std::u32string& text, Whose whose) {
  constexpr char32_t kDottedI = 0x130, kSigma = 0x3a3, kFinalSigma = 0x3c2;
  const Letters& letters = letters_of(whose);
  const bool python = whose == Whose::py;
  // str.lower: a capital sigma is final when a cased letter stands before it and none after, ignorables skipped. Both
  // facts are carried along instead of searched for, so that a text of sigmas and marks stays linear.
  std::vector<bool> cased_after;
  if (python && text.find(kSigma) != std::u32string::npos) {
    cased_after.resize(text.size() + 1);
    for (std::size_t i = text.size(); i-- > 0;) {
      const std::uint16_t f = flags_of(text[i]);
      cased_after[i] = (f & kPyIgnorable) != 0 ? cased_after[i + 1] : (f & kPyCased) != 0;
    }
  }
  std::u32string out;
  out.reserve(text.size());
  bool cased_before = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char32_t c = text[i];
    if (c == kDottedI) {
      out += U"i\u0307";
    } else if (c == kSigma && python && cased_before && !cased_after[i + 1]) {
      out += kFinalSigma;
    } else {
      out += static_cast<char32_t>(static_cast<std::int32_t>(c) + letters.lower[c]);
    }
    if (!cased_after.empty()) {
      const std::uint16_t f = flags_of(c);
      if ((f & kPyIgnorable) == 0) cased_before = (f & kPyCased) != 0;
    }
  }
  text = std::move(out);
}

void fix_ligatures(std::u32string& text) {
  replace_single(text, kLigatures);
}
void fix_widths(std::u32string& text) {
  replace_single(text, kWidths);
}

}  // namespace tandem::text
