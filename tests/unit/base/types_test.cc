#include "tandem/types.h"

#include <gtest/gtest.h>

#include <set>

#include "tandem/error.h"

namespace tandem {
namespace {

TEST(Types, NamesAreReadBack) {
  for (const auto* name : {"auto", "fp32", "tf32", "fp16", "bf16", "int8", "fp8"}) {
    EXPECT_EQ(to_string(parse_precision(name)), name);
  }
  for (const auto* name : {"projected", "pooled"}) EXPECT_EQ(to_string(parse_feature(name)), name);
  for (const auto* name : {"auto", "hf", "openai", "hf-fast"}) EXPECT_EQ(to_string(parse_reference(name)), name);
  for (const auto* name : {"apply", "ignore"}) EXPECT_EQ(to_string(parse_exif(name)), name);
  for (const auto* name : {"auto", "hf", "openai"}) EXPECT_EQ(to_string(parse_cleaning(name)), name);
  for (const auto* name : {"auto", "cpu", "reference", "cuda:0", "cuda:13"}) {
    EXPECT_EQ(to_string(parse_device(name)), name);
  }
  EXPECT_EQ(to_string(parse_device("cuda")), "cuda:0");
}

TEST(Types, WrongNamesAreToldWithTheChoices) {
  try {
    parse_precision("fp7");
    ADD_FAILURE() << "parsed";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::invalid_argument);
    EXPECT_STREQ(error.what(), "precision 'fp7' is unknown: choose one of auto, fp32, tf32, fp16, bf16, int8, fp8");
  }
  for (const auto* name : {"", "gpu", "cuda:", "cuda:-1", "cuda:1x", "cuda:99999999999", "CPU"}) {
    EXPECT_THROW(parse_device(name), Error) << name;
  }
}

TEST(Types, EveryCodeHasItsName) {
  std::set<std::string_view> names;
  for (int code = 0; code <= static_cast<int>(Code::internal); ++code) names.insert(code_name(static_cast<Code>(code)));
  EXPECT_EQ(names.size(), static_cast<std::size_t>(Code::internal) + 1);
  EXPECT_EQ(code_name(Code::deadline_exceeded), "deadline_exceeded");
}

}  // namespace
}  // namespace tandem
