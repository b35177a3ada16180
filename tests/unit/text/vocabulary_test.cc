// Tokenizer files: what is accepted, and what each broken one's error says.
#include "text/vocabulary.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "tandem/error.h"
#include "text/tokenizer.h"

namespace tandem::text {
namespace {

namespace fs = std::filesystem;

const fs::path kGolden = fs::path(TANDEM_SOURCE_DIR) / "tests/golden/tokenizer";

/// The code and message of what `call` throws; the test fails if it throws nothing.
template <class Call>
std::string error_of(Call&& call) {
  try {
    call();
  } catch (const Error& e) {
    return std::string(code_name(e.code())) + ": " + e.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

class TemporaryFolder : public testing::Test {
 protected:
  void SetUp() override {
    path_ = fs::temp_directory_path() / ("tandem-text-" + std::to_string(::getpid()) + "-" +
                                         testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(path_);
    fs::create_directories(path_);
  }
  void TearDown() override { fs::remove_all(path_); }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(path_ / name, std::ios::binary) << text;
  }
  std::string error() const {
    return error_of([&] { load_tokenizer(path_, {}); });
  }
  fs::path path_;
};

using TokenizerFiles = TemporaryFolder;

using Parts = std::vector<const char*>;

void expect_parts(const std::string& message, const Parts& parts) {
  for (const char* part : parts)
    EXPECT_NE(message.find(part), std::string::npos) << "no " << part << " in: " << message;
}

TEST_F(TokenizerFiles, WhatIsMissingIsNamed) {
  expect_parts(error(), {"not_found", path_.c_str(), "tokenizer.json", "vocab.json"});
  EXPECT_FALSE(has_tokenizer(path_));
  write("vocab.json", "{}");
  expect_parts(error(), {"not_found", "merges.txt", "missing"});
  EXPECT_FALSE(has_tokenizer(path_));
  fs::remove(path_ / "vocab.json");
  write("merges.txt", "");
  expect_parts(error(), {"not_found", "vocab.json", "missing"});
  expect_parts(error_of([&] { load_tokenizer(path_ / "absent", {}); }), {"not_found", "absent"});
  write("notes.txt", "");
  expect_parts(error_of([&] { load_tokenizer(path_ / "notes.txt", {}); }), {"unsupported", "notes.txt"});
  EXPECT_TRUE(has_tokenizer(kGolden / "split"));
  EXPECT_TRUE(has_tokenizer(kGolden / "json"));
  EXPECT_TRUE(has_tokenizer(kGolden / "openai"));
}

TEST_F(TokenizerFiles, MalformedVocabulariesAreNamed) {
  write("merges.txt", "#version: 0.2\n");
  const std::pair<const char*, Parts> cases[] = {
      {"{", {"bad_data", "vocab.json", "JSON"}},
      {"[]", {"bad_data", "vocab.json", "array"}},
      {"{}", {"bad_data", "vocab.json", "empty"}},
      {R"({"a": "0"})", {"vocab.json", "\"a\"", "\"0\""}},
      {R"({"a": -1})", {"vocab.json", "\"a\"", "-1"}},
      {R"({"a": 0.5})", {"vocab.json", "0.5"}},
      {R"({"a": 1e30})", {"vocab.json", "1e+30"}},
      {R"({"a": 0, "b": 5})", {"vocab.json", "not contiguous", "\"b\"", "5"}},
      {R"({"a": 0, "b": 0})", {"vocab.json", "both have id 0"}},
      {R"({"a": 0})", {"vocab.json", "no token", "for byte 0"}},
  };
  for (const auto& [text, parts] : cases) {
    write("vocab.json", text);
    expect_parts(error(), parts);
  }
}

TEST_F(TokenizerFiles, MalformedMergesAreNamed) {
  fs::copy_file(kGolden / "split/vocab.json", path_ / "vocab.json");
  const std::pair<const char*, Parts> cases[] = {
      {"#version: 0.2\na\n", {"bad_data", "merges.txt", "merge 0", "\"a\""}},
      {"t h\nt h e\n", {"merges.txt", "merge 1", "\"t h e\""}},
      {"q q\n", {"merges.txt", "\"q q\"", "needs token \"qq\""}},
      {"\n", {"merges.txt", "merge 0"}},
  };
  for (const auto& [text, parts] : cases) {
    write("merges.txt", text);
    expect_parts(error(), parts);
  }
}

TEST_F(TokenizerFiles, MalformedTokenizerJsonIsNamed) {
  const std::pair<const char*, Parts> cases[] = {
      {"", {"bad_data", "tokenizer.json"}},
      {"[]", {"bad_data", "model"}},
      {R"({"model": 1})", {"bad_data", "model"}},
      {R"({"model": {"type": "WordPiece"}})", {"unsupported", "WordPiece"}},
      {R"({"model": {"type": "BPE", "vocab": {}, "merges": []}})", {"unsupported", "end_of_word_suffix", "missing"}},
      {R"({"model": {"end_of_word_suffix": "@@", "vocab": {}, "merges": []}})", {"unsupported", "@@"}},
      {R"({"model": {"end_of_word_suffix": "</w>", "merges": []}})", {"bad_data", "model.vocab"}},
      {R"({"model": {"end_of_word_suffix": "</w>", "vocab": {"a": 0}}})", {"bad_data", "model.merges"}},
      {R"({"model": {"end_of_word_suffix": "</w>", "vocab": {"a": 0}, "merges": [["a"]]}})", {"merge 0", "[\"a\"]"}},
      {R"({"model": {"end_of_word_suffix": "</w>", "vocab": {"a": 0}, "merges": ["ab"]}})", {"merge 0", "\"ab\""}},
      {R"({"added_tokens": 3, "model": {"end_of_word_suffix": "</w>", "vocab": {"a": 0}, "merges": []}})",
       {"added_tokens", "number"}},
      {R"({"added_tokens": [{"content": "x"}], "model": {"end_of_word_suffix": "</w>", "vocab": {"a": 0}, "merges": []}})",
       {"id"}},
  };
  for (const auto& [text, parts] : cases) {
    write("tokenizer.json", text);
    expect_parts(error(), parts);
  }
}

TEST_F(TokenizerFiles, MergesMayBeStringsOrPairs) {
  std::ifstream file(kGolden / "json/tokenizer.json");
  std::string text((std::istreambuf_iterator<char>(file)), {});
  const auto pairs = load_tokenizer(kGolden / "json", {});
  // [["a","b"],["c","d"]] becomes ["a b","c d"].
  std::string joined;
  const std::size_t merges = text.find("\"merges\":[");
  ASSERT_NE(merges, std::string::npos);
  for (std::size_t at = 0; at < text.size();) {
    const bool inside = at >= merges;
    if (inside && text.compare(at, 2, "[\"") == 0) {
      joined += '"';
      at += 2;
    } else if (inside && text.compare(at, 2, "\"]") == 0) {
      joined += '"';
      at += 2;
    } else if (inside && text.compare(at, 3, "\",\"") == 0) {
      joined += ' ';
      at += 3;
    } else {
      joined += text[at++];
    }
  }
  write("tokenizer.json", joined);
  const auto strings = load_tokenizer(path_, {});
  EXPECT_EQ(strings->encode("the naive cat sat").ids, pairs->encode("the naive cat sat").ids);
  EXPECT_LT(joined.size(), text.size());
}

TEST_F(TokenizerFiles, BrokenArchivesAreNamed) {
  std::ifstream file(kGolden / "openai/bpe_simple_vocab_16e6.txt.gz", std::ios::binary);
  const std::string whole((std::istreambuf_iterator<char>(file)), {});
  for (const std::string& broken :
       {whole.substr(0, whole.size() / 2), std::string("plain text"), std::string(), whole.substr(0, 5)}) {
    write("bpe_simple_vocab_16e6.txt.gz", broken);
    expect_parts(error(), {"bad_data", "bpe_simple_vocab_16e6.txt.gz"});
  }
}

TEST(OpenAiMerges, NumbersTokensAsOpenClip) {
  // A newline at the end starts an empty line, which takes an id; a token made twice keeps its last place.
  EXPECT_EQ(parse_openai_merges("header\na n\nan d</w>", "x").start_id, 514);
  EXPECT_EQ(parse_openai_merges("header\na n\nan d</w>\n", "x").start_id, 515);
  const Vocabulary twice = parse_openai_merges("header\na b\nb c\na bc\nab c", "x");
  EXPECT_EQ(twice.ids.at("abc"), 515);
  EXPECT_EQ(twice.end_id, 517);
  expect_parts(error_of([] { parse_openai_merges("only a header", "x.gz"); }), {"bad_data", "x.gz"});
  expect_parts(error_of([] { parse_openai_merges("header\nqq r", "x.gz"); }), {"bad_data", "\"qq r\"", "\"qq\""});
}

}  // namespace
}  // namespace tandem::text
