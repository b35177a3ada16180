#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <string>
#include <thread>

#include "tandem/error.h"

namespace tandem::text {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<std::int32_t>;

const fs::path kGolden = fs::path(TANDEM_SOURCE_DIR) / "tests/golden/tokenizer";

TEST(Tokenizer, EmptyTextIsStartAndEnd) {
  for (const Cleaning cleaning : {Cleaning::hf, Cleaning::openai}) {
    const auto t = load_tokenizer(kGolden / "split", {.cleaning = cleaning});
    const Tokens tokens = t->encode("");
    EXPECT_EQ(tokens.ids, (Ids{t->start_id(), t->end_id()}));
    EXPECT_EQ(tokens.pool_index, 1);
    EXPECT_FALSE(tokens.truncated);
    EXPECT_EQ(t->vocab_size(), t->end_id() + 1);
    EXPECT_EQ(t->pad_id(), cleaning == Cleaning::hf ? t->end_id() : 0);
  }
}

TEST(Tokenizer, TruncationKeepsTheEnd) {
  const auto full = load_tokenizer(kGolden / "split", {.context_length = 100});
  std::string text;
  for (int i = 0; i < 30; ++i) text += "! ";  // one token each
  const Ids all = full->encode(text).ids;
  ASSERT_EQ(all.size(), 32u);
  for (const int length : {2, 3, 31, 32, 33}) {
    const auto t = load_tokenizer(kGolden / "split", {.context_length = length});
    const Tokens tokens = t->encode(text);
    EXPECT_EQ(tokens.truncated, length < 32) << length;
    ASSERT_EQ(tokens.ids.size(), static_cast<std::size_t>(std::min(length, 32)));
    EXPECT_TRUE(std::equal(tokens.ids.begin(), tokens.ids.end() - 1, all.begin()));
    EXPECT_EQ(tokens.ids.back(), t->end_id());
    EXPECT_EQ(tokens.pool_index, static_cast<std::int32_t>(tokens.ids.size()) - 1);
  }
}

TEST(Tokenizer, PoolsAsConfigured) {
  const auto end = load_tokenizer(kGolden / "split", {})->end_id();
  const std::string text = "cat <|endoftext|> dog";
  const auto at = [&](TokenizerOptions options) { return load_tokenizer(kGolden / "split", options)->encode(text); };
  const Tokens first = at({});
  EXPECT_EQ(first.ids[first.pool_index], end);
  EXPECT_LT(first.pool_index, static_cast<std::int32_t>(first.ids.size()) - 1);  // the literal, as in transformers
  EXPECT_EQ(at({.pool_id = 100000}).pool_index, 0);                              // nothing matches: position 0
  EXPECT_EQ(at({.pool_id = first.ids[1]}).pool_index, 1);
  EXPECT_EQ(at({.pool_rule = PoolRule::largest_id}).pool_index, first.pool_index);
  EXPECT_EQ(at({.pool_rule = PoolRule::largest_id, .start_id = 70000}).pool_index, 0);
}

TEST(Tokenizer, IdsMayBeOverridden) {
  const TokenizerOptions options{.start_id = 49406, .end_id = 49407, .pad_id = 0};
  const auto t = load_tokenizer(kGolden / "json", options);
  const Ids ids = t->encode("cat <|endoftext|>").ids;
  EXPECT_EQ(ids.front(), 49406);
  EXPECT_EQ(ids.back(), 49407);
  EXPECT_EQ(ids[ids.size() - 2], 49407);
  EXPECT_EQ(t->pad_id(), 0);
  EXPECT_EQ(t->vocab_size(), 49408);
  EXPECT_THROW(load_tokenizer(kGolden / "json", {.start_id = -1}), Error);
  EXPECT_THROW(load_tokenizer(kGolden / "json", {.context_length = 1}), Error);
}

TEST(Tokenizer, InvalidUtf8IsReplacedPerMaximalSubpart) {
  const std::string r = "\xef\xbf\xbd";
  const std::pair<std::string, std::string> cases[] = {
      {"a\xff", "a" + r},
      {"\xc3", r},
      {"\xc3(", r + "("},
      {"\xe2\x82", r},
      {"\xe2\x82\xff", r + r},
      {"\xf0\x9f\x98", r},
      {"\xf0\x9f\x98"
       "a",
       r + "a"},
      {"\xed\xa0\x80", r + r + r},  // a surrogate
      {"\xc0\x80", r + r},          // overlong
      {"\xf4\x90\x80\x80", r + r + r + r},
      {"\x80\xbf", r + r},
      {"caf\xe9 noir", "caf" + r + " noir"},
  };
  for (const Cleaning cleaning : {Cleaning::hf, Cleaning::openai}) {
    const auto t = load_tokenizer(kGolden / "split", {.cleaning = cleaning});
    for (const auto& [bad, good] : cases) EXPECT_EQ(t->encode(bad).ids, t->encode(good).ids) << good;
  }
}

TEST(Tokenizer, MegabyteTextsTakeLinearTime) {
  const auto repeat = [](std::string_view unit, std::size_t bytes) {
    std::string text;
    while (text.size() < bytes) text += unit;
    return text;
  };
  constexpr std::string_view units[] = {
      "a",        "the cat",      "\xcc\x81\xcc\x96", "&amp;",    "amp;&amp;",    "\x1b[1", "\xc3\x83\xc2\xa9",
      "\xce\xa3", "<|endoftext|", "\xc3\x83 ",        "\xc2\x81", "\xe0\xbd\xb8", "'",      "\n\xc3\xa9"};
  for (const Cleaning cleaning : {Cleaning::hf, Cleaning::openai}) {
    for (const std::string_view unit : units) {
      // Two of them with room for every id: merging and splitting must not rely on the text being cut.
      const bool whole = unit == "a" || unit == "&amp;";
      const auto t = load_tokenizer(kGolden / "split", {.cleaning = cleaning, .context_length = whole ? 1 << 22 : 77});
      const std::string text = repeat(unit, 1 << 20);
      const auto begin = std::chrono::steady_clock::now();
      const Tokens tokens = t->encode(text);
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
      // Quadratic work would be hours; the bound is loose for sanitizers and busy machines.
      EXPECT_LT(seconds.count(), 60) << unit;
      EXPECT_EQ(tokens.ids.back(), t->end_id());
      EXPECT_EQ(tokens.truncated, tokens.ids.size() == 77u);
    }
  }
}

TEST(Tokenizer, ThreadsShareOne) {
  const auto t = load_tokenizer(kGolden / "json", {.cleaning = Cleaning::openai});
  const std::string texts[] = {"a photo of the cat", "voil\xc3\x83\xc2\xa0 &eacute;", "\xce\x91\xce\xa3 \xe2\x9d\xa4"};
  Ids want[3];
  for (int i = 0; i < 3; ++i) want[i] = t->encode(texts[i]).ids;
  std::vector<std::thread> threads;
  std::vector<int> wrong(4);
  for (int n = 0; n < 4; ++n)
    threads.emplace_back([&, n] {
      for (int i = 0; i < 300; ++i) wrong[n] += t->encode(texts[i % 3]).ids != want[i % 3];
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4));
}

}  // namespace
}  // namespace tandem::text
