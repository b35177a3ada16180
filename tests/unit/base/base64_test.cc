// Every kernel of this processor against the definition, a character at a time, with memory that may not be touched
// directly behind what is read and written.
#include "base/base64.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <optional>
#include <random>

#include "base/base64_kernels.h"
#include "base/strings.h"
#include "tandem/error.h"

namespace tandem::base64 {
namespace {

constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

std::string as_text(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::span<const std::byte> as_bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

/// What a decoder says: bytes, or why not.
struct Said {
  std::string bytes, error;
  bool operator==(const Said&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Said& said) {
  return out << '"' << printable(said.bytes) << "\" " << said.error;
}

/// The value of a digit, of either alphabet.
std::optional<unsigned> value_of(char c) {
  if (c == '-') return 62;
  if (c == '_') return 63;
  const std::size_t at = kDigits.find(c);
  return at == std::string_view::npos ? std::nullopt : std::optional(static_cast<unsigned>(at));
}

/// The definition: bits are collected, a byte for each eight of them.
Said defined(std::string_view text) {
  Said said;
  unsigned bits = 0, count = 0;
  std::size_t digits = 0;
  bool padded = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (std::string_view(" \t\r\n").find(text[i]) != std::string_view::npos) continue;
    if (text[i] == '=') {
      padded = true;
      continue;
    }
    const auto value = value_of(text[i]);
    if (!value || padded) {
      const int code = static_cast<unsigned char>(text[i]);
      return {"", cat("base64: unexpected character code ", code, " at position ", i)};
    }
    bits = (bits << 6 | *value) & 0xffff, count += 6, ++digits;
    if (count >= 8) count -= 8, said.bytes += static_cast<char>(bits >> count & 255);
  }
  if (digits % 4 == 1) return {"", cat("base64: cut off after ", text.size(), " characters")};
  return said;
}

Said said_by(const Kernels& kernels, std::string_view text) {
  try {
    return {as_text(decode(kernels, text)), ""};
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::bad_data);
    return {"", error.what()};
  }
}

std::string encoded_by_definition(std::string_view bytes) {
  std::string out;
  for (std::size_t bit = 0; bit < 8 * bytes.size(); bit += 6) {
    unsigned value = 0;
    for (std::size_t i = bit; i < bit + 6; ++i) {
      const unsigned byte = i / 8 < bytes.size() ? static_cast<unsigned char>(bytes[i / 8]) : 0;
      value = value << 1 | (byte >> (7 - i % 8) & 1);
    }
    out += kDigits[value];
  }
  while (out.size() % 4 != 0) out += '=';
  return out;
}

std::string random_bytes(std::mt19937& random, std::size_t size) {
  std::string bytes(size, '\0');
  for (char& c : bytes) c = static_cast<char>(random());
  return bytes;
}

/// Memory that ends where a page begins that may not be touched, and whose first bytes stand behind another.
class Guarded {
 public:
  explicit Guarded(std::size_t most) {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    inner_ = (most + page - 1) / page * page;
    bytes_ = inner_ + 2 * page;
    void* const all = ::mmap(nullptr, bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) throw Error(Code::out_of_memory, "no memory for the test");
    all_ = static_cast<char*>(all);
    ::mprotect(all_ + page, inner_, PROT_READ | PROT_WRITE);
    end_ = all_ + page + inner_;
  }
  ~Guarded() { ::munmap(all_, bytes_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  char* last(std::size_t size) const { return end_ - size; }
  char* first() const { return end_ - inner_; }
  std::string_view at_the_end(std::string_view text) const {
    std::memcpy(last(text.size()), text.data(), text.size());
    return {last(text.size()), text.size()};
  }

 private:
  std::size_t inner_ = 0, bytes_ = 0;
  char *all_ = nullptr, *end_ = nullptr;
};

class EveryKernel : public ::testing::TestWithParam<std::string_view> {
 protected:
  void SetUp() override {
    for (const Kernels& one : available()) {
      if (one.name == GetParam()) kernels_ = &one;
    }
    if (kernels_ == nullptr) GTEST_SKIP() << "this processor has no " << GetParam();
  }
  const Kernels& kernels() const { return *kernels_; }

 private:
  const Kernels* kernels_ = nullptr;
};

TEST_P(EveryKernel, KnownPairs) {  // RFC 4648, section 10
  const std::pair<const char*, const char*> pairs[] = {{"", ""},
                                                       {"f", "Zg=="},
                                                       {"fo", "Zm8="},
                                                       {"foo", "Zm9v"},
                                                       {"foob", "Zm9vYg=="},
                                                       {"fooba", "Zm9vYmE="},
                                                       {"foobar", "Zm9vYmFy"}};
  for (const auto& [plain, code] : pairs) {
    std::string out = "before ";
    append(kernels(), as_bytes_of(plain), out);
    EXPECT_EQ(out, std::string("before ") + code);
    EXPECT_EQ(said_by(kernels(), code), (Said{plain, ""}));
  }
}

TEST_P(EveryKernel, EveryLengthComesBack) {
  std::mt19937 random(7);
  for (std::size_t size = 0; size <= 300; ++size) {
    const std::string plain = random_bytes(random, size);
    std::string code;
    append(kernels(), as_bytes_of(plain), code);
    ASSERT_EQ(code, encoded_by_definition(plain)) << size;
    std::string strict;
    ASSERT_TRUE(decode_strict(kernels(), code, strict)) << size;
    EXPECT_EQ(strict, plain);
    const Said same{plain, ""};
    ASSERT_EQ(said_by(kernels(), code), same) << size;
    for (const std::size_t width : {1, 3, 4, 60, 64, 76}) {
      std::string lines;
      for (std::size_t i = 0; i < code.size(); ++i) lines += std::string(i % width == 0 ? "\r\n" : "") + code[i];
      ASSERT_EQ(said_by(kernels(), lines), same) << size << " in lines of " << width;
    }
    while (!code.empty() && code.back() == '=') code.pop_back();
    ASSERT_EQ(said_by(kernels(), code), same) << size << " without padding";
    for (char& c : code) c = c == '+' ? '-' : c == '/' ? '_' : c;
    ASSERT_EQ(said_by(kernels(), code), same) << size << " URL-safe";
  }
}

TEST_P(EveryKernel, LargeOnesComeBack) {  // several pieces of the decoder, with and without a line break inside them
  std::mt19937 random(8);
  for (const std::size_t size : {24575u, 24576u, 24577u, 49152u, 100003u}) {
    const std::string plain = random_bytes(random, size);
    std::string code;
    append(kernels(), as_bytes_of(plain), code);
    ASSERT_TRUE(code == encoded_by_definition(plain)) << size;
    EXPECT_TRUE(said_by(kernels(), code).bytes == plain) << size;
    code.insert(32766, "\n");
    EXPECT_TRUE(said_by(kernels(), code).bytes == plain) << size;
    code.insert(70, " ");
    EXPECT_TRUE(said_by(kernels(), code) == defined(code)) << size;
  }
}

TEST_P(EveryKernel, EveryCharacterAtEveryPlace) {  // of the largest block and of its neighbours
  const std::string digits = encoded_by_definition(std::string(96, '\x5b'));
  for (std::size_t at = 0; at < digits.size(); ++at) {
    for (int c = 0; c < 256; ++c) {
      std::string text = digits;
      text[at] = static_cast<char>(c);
      ASSERT_EQ(said_by(kernels(), text), defined(text)) << "character " << c << " at " << at;
      std::string out;
      const bool good =
          kDigits.find(static_cast<char>(c)) != std::string_view::npos || (c == '=' && at + 1 == text.size());
      ASSERT_EQ(decode_strict(kernels(), text, out), good) << "character " << c << " at " << at;
      ASSERT_EQ(out, good ? defined(text).bytes : "");
    }
  }
}

TEST_P(EveryKernel, WhateverComes) {
  std::mt19937 random(9);
  constexpr std::string_view kOften = "AZaz09+/-_AZaz09+/-_AZaz09 \n\r\t=";
  for (int round = 0; round < 20000; ++round) {
    std::string text(random() % 300, 'A');
    const auto share = random() % 100;
    for (char& c : text) {
      if (random() % 100 < share) c = kOften[random() % kOften.size()];
      if (random() % 4000 == 0) c = static_cast<char>(random());
    }
    ASSERT_EQ(said_by(kernels(), text), defined(text)) << printable(text);
  }
}

TEST_P(EveryKernel, TouchesOnlyItsOwnMemory) {
  std::mt19937 random(10);
  const Guarded in(1024), out(1024);
  for (std::size_t size = 0; size <= 300; ++size) {
    const std::string plain = random_bytes(random, size);
    std::string code = encoded_by_definition(plain);
    code.resize(size);  // whole groups and some digits more, at the end of the memory and of what may be written
    const std::string_view digits = in.at_the_end(code);
    const std::size_t room = size / 4 * 3;
    auto* to = reinterpret_cast<std::uint8_t*>(out.last(room));
    const std::size_t read = kernels().decode(digits.data(), size, Alphabet::either, to);
    ASSERT_LE(read, size);
    ASSERT_EQ(read % 4, 0u);
    EXPECT_EQ(std::string_view(out.last(room), read / 4 * 3), std::string_view(plain).substr(0, read / 4 * 3));
    // Other places of the same bytes within their registers' widths.
    std::memcpy(in.first() + size % 67, code.data(), size);
    auto* start = reinterpret_cast<std::uint8_t*>(out.first() + size % 65);
    std::memset(start, 0x55, room + 1);
    ASSERT_EQ(kernels().decode(in.first() + size % 67, size, Alphabet::standard, start), read);
    EXPECT_EQ(0, std::memcmp(start, plain.data(), read / 4 * 3));
    EXPECT_EQ(start[room], 0x55);

    const std::string_view bytes = in.at_the_end(plain);
    const std::size_t characters = size / 3 * 4;
    const std::size_t took =
        kernels().encode(reinterpret_cast<const std::uint8_t*>(bytes.data()), size, out.last(characters));
    ASSERT_LE(took, size);
    ASSERT_EQ(took % 3, 0u);
    EXPECT_EQ(std::string_view(out.last(characters), took / 3 * 4), encoded_by_definition(plain.substr(0, took)));

    // The whole decoder, whatever stands behind the text.
    ASSERT_EQ(said_by(kernels(), in.at_the_end(code)), defined(code));
  }
}

INSTANTIATE_TEST_SUITE_P(Base64, EveryKernel, ::testing::Values("scalar", "avx2", "avx512"),
                         [](const auto& one) { return std::string(one.param); });

TEST(Base64, StrictOnesTakeNothingElse) {
  std::string out = "old";
  EXPECT_TRUE(decode_strict_base64("", out));
  EXPECT_EQ(out, "");
  EXPECT_TRUE(decode_strict_base64("TWFuTWE=", out));
  EXPECT_EQ(out, "ManMa");
  for (const char* wrong : {"TWF", "TW!u", "TW=u", "TWE=TWFu", "TWFu\n", "TW-u", "TW_u", "====", "T===", "TWFu    "}) {
    EXPECT_FALSE(decode_strict_base64(wrong, out)) << wrong;
    EXPECT_EQ(out, "") << wrong;
  }
}

TEST(Base64, TheBestKernelsAreChosen) {
  ASSERT_FALSE(available().empty());
  EXPECT_EQ(available().back().name, "scalar");
  std::string out;
  append_base64(as_bytes_of("Man"), out);
  EXPECT_EQ(out, "TWFu");
  EXPECT_EQ(as_text(decode_base64(" TWF\nu")), "Man");
  EXPECT_THROW(decode_base64(std::string_view("Zm\0v", 4)), Error);
}

}  // namespace
}  // namespace tandem::base64
