// Ids against those that transformers and open_clip gave (tests/golden/make_tokenizer_golden.py).
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "text/tokenizer.h"

namespace tandem::text {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const fs::path kGolden = fs::path(TANDEM_SOURCE_DIR) / "tests/golden/tokenizer";

json read_json(const fs::path& path) {
  std::ifstream file(path);
  return json::parse(file);
}

void expect_golden(const std::string& golden, const fs::path& vocabulary, Cleaning cleaning) {
  const json cases = read_json(kGolden / golden).at("cases");
  const auto tokenizer = load_tokenizer(vocabulary, {.cleaning = cleaning});
  const char* column = cleaning == Cleaning::hf ? "hf" : "openai";
  std::size_t wrong = 0;
  for (const json& one : cases) {
    const auto text = one.at("text").get<std::string>();
    const Tokens got = tokenizer->encode(text);
    if (json(got.ids) == one.at(column)) continue;
    ADD_FAILURE() << one.at("text").dump(-1, ' ', true) << "\nwant " << one.at(column).dump() << "\ngot  "
                  << json(got.ids).dump();
    if (++wrong == 10) break;
  }
  EXPECT_GE(cases.size(), 15u);
}

TEST(TokenizerGolden, SplitFilesHf) {
  expect_golden("small.json", kGolden / "split", Cleaning::hf);
}
TEST(TokenizerGolden, TokenizerJsonHf) {
  expect_golden("small.json", kGolden / "json", Cleaning::hf);
}
TEST(TokenizerGolden, MergesArchiveHf) {
  expect_golden("small.json", kGolden / "openai", Cleaning::hf);
}
TEST(TokenizerGolden, MergesArchiveOpenAi) {
  expect_golden("small.json", kGolden / "openai", Cleaning::openai);
}
TEST(TokenizerGolden, SplitFilesOpenAi) {
  expect_golden("small.json", kGolden / "split", Cleaning::openai);
}
TEST(TokenizerGolden, ExtendedVocabulary) {
  expect_golden("extended.json", kGolden / "extended", Cleaning::hf);
}

/// CLIP's own vocabulary: named by TANDEM_CLIP_VOCAB, or where tools/fetch_clip_vocab.sh puts it. Empty if absent.
fs::path clip_vocabulary() {
  if (const char* named = std::getenv("TANDEM_CLIP_VOCAB")) return named;
  const fs::path fetched = fs::path(TANDEM_SOURCE_DIR) / ".venv/share/clip/bpe_simple_vocab_16e6.txt.gz";
  return fs::exists(fetched) ? fetched : fs::path();
}

class ClipGolden : public testing::TestWithParam<Cleaning> {};

TEST_P(ClipGolden, Ids) {
  const fs::path path = clip_vocabulary();
  if (path.empty())
    GTEST_SKIP() << "CLIP's vocabulary is not here: run tools/fetch_clip_vocab.sh, or set TANDEM_CLIP_VOCAB to a "
                    "bpe_simple_vocab_16e6.txt.gz";
  EXPECT_EQ(load_tokenizer(path, {.cleaning = GetParam()})->vocab_size(), 49408);
  expect_golden("clip.json", path, GetParam());
}

INSTANTIATE_TEST_SUITE_P(Cleanings, ClipGolden, testing::Values(Cleaning::hf, Cleaning::openai),
                         [](const auto& one) { return one.param == Cleaning::hf ? "hf" : "openai"; });

}  // namespace
}  // namespace tandem::text
