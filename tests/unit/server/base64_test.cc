#include "server/base64.h"

#include <gtest/gtest.h>

#include <random>

#include "tandem/error.h"

namespace tandem::server {
namespace {

std::string as_text(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string encoded(std::string_view text) {
  std::string out;
  append_base64(std::as_bytes(std::span(text.data(), text.size())), out);
  return out;
}

TEST(Base64, KnownPairs) {  // RFC 4648, section 10
  const std::pair<const char*, const char*> pairs[] = {{"", ""},
                                                       {"f", "Zg=="},
                                                       {"fo", "Zm8="},
                                                       {"foo", "Zm9v"},
                                                       {"foob", "Zm9vYg=="},
                                                       {"fooba", "Zm9vYmE="},
                                                       {"foobar", "Zm9vYmFy"}};
  for (const auto& [plain, code] : pairs) {
    EXPECT_EQ(encoded(plain), code);
    EXPECT_EQ(as_text(decode_base64(code)), plain);
  }
}

TEST(Base64, AnyBytesComeBack) {
  std::mt19937 random(7);
  for (std::size_t size = 0; size < 300; ++size) {
    std::string plain(size, '\0');
    for (char& c : plain) c = static_cast<char>(random());
    std::string code = encoded(plain);
    EXPECT_EQ(as_text(decode_base64(code)), plain);
    // Without padding, in the URL-safe alphabet, and broken into lines.
    std::string lines;
    for (std::size_t i = 0; i < code.size(); ++i) lines += (i % 76 == 75 ? "\r\n" : "") + std::string(1, code[i]);
    EXPECT_EQ(as_text(decode_base64(lines)), plain);
    while (!code.empty() && code.back() == '=') code.pop_back();
    for (char& c : code) c = c == '+' ? '-' : c == '/' ? '_' : c;
    EXPECT_EQ(as_text(decode_base64(code)), plain);
  }
}

TEST(Base64, RefusesWhatIsNot) {
  for (const char* wrong : {"Zm9v!", "Zg==Zg", "\x01", "Zm9vY", "Zm9\xc3\xa4", "Z"}) {
    try {
      decode_base64(wrong);
      FAIL() << wrong;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::bad_data) << wrong;
    }
  }
  EXPECT_THROW(decode_base64(std::string_view("Zm\0v", 4)), Error);
}

}  // namespace
}  // namespace tandem::server
