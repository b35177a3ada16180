// What counts as a right answer.
#include "loadtest/answers.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "base/base64.h"

namespace tandem::loadtest {
namespace {

std::string bytes_of(std::vector<float> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

std::string json_of(std::vector<std::vector<float>> vectors) {
  std::string out = R"({"object":"list","data":[)";
  for (const auto& vector : vectors) {
    out += R"({"object":"embedding","index":0,"embedding":")";
    append_base64(std::as_bytes(std::span(vector)), out);
    out += "\"},";
  }
  return out + "]}";
}

TEST(Answers, RightVectorsAreRight) {
  EXPECT_EQ(check_vectors("application/json", json_of({{0.6f, 0.8f}, {1, 0}}), 2), "");
  EXPECT_EQ(check_vectors("application/json", R"({"data":[{"embedding": [0.6, -0.8]},{"embedding":[1,0]}]})", 2), "");
  EXPECT_EQ(check_vectors("application/json", json_of({{3, 4}}), 1, false), "");
}

TEST(Answers, WrongOnesAreNamed) {
  const auto wrong = [](const std::string& body, int items = 1) {
    return check_vectors("application/json", body, items);
  };
  EXPECT_NE(wrong(json_of({{0, 0}})).find("zeros"), std::string::npos);
  EXPECT_NE(wrong(json_of({{0.5f, 0.5f}})).find("length 0.7"), std::string::npos);
  EXPECT_NE(wrong(json_of({{NAN, 1}})).find("finite"), std::string::npos);
  EXPECT_NE(wrong(json_of({{1, 0}, {1, 0, 0}}), 2).find("has 3 numbers"), std::string::npos);
  EXPECT_NE(wrong(json_of({{1, 0}}), 2).find("1 vectors, not 2"), std::string::npos);
  EXPECT_NE(wrong("").find("0 vectors, not 1"), std::string::npos);
  EXPECT_NE(wrong(R"({"data":[{"embedding":"@@@@"}]})").find("base64"), std::string::npos);
  EXPECT_NE(wrong(R"({"data":[{"embedding":[1,null]}]})"), "");
  EXPECT_NE(wrong(R"({"data":[{"embedding":null}]})"), "");
  EXPECT_NE(wrong(R"({"data":[{"embedding")"), "");
  EXPECT_NE(wrong(R"({"data":[{"embedding":[1)"), "");
  EXPECT_NE(wrong(R"({"data":[{"embedding":")"), "");
}

TEST(Answers, Npy) {
  std::string npy = "\x93NUMPY\x01";
  const std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }\n";
  npy += {'\0', static_cast<char>(header.size()), '\0'};
  npy += header;
  EXPECT_EQ(check_vectors("application/x-npy", npy + bytes_of({0, 1, 1, 0}), 2), "");
  EXPECT_NE(check_vectors("application/x-npy", npy + bytes_of({0, 1, 1}), 2), "");
  EXPECT_NE(check_vectors("application/x-npy", npy + bytes_of({0, 1, 0, 0}), 2), "");
  EXPECT_NE(check_vectors("application/x-npy", "{}", 2), "");
}

}  // namespace
}  // namespace tandem::loadtest
