#include "server/keys.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tandem/error.h"

namespace tandem::server {
namespace {

using namespace std::chrono_literals;

// sha256sum of "first", "second".
const std::string kFirst = "a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e";
const std::string kSecond = "16367aacb67a4a017c8da8ab95682ccb390863780f7114dda0a0e0c55644c7c4";

class KeyRingTest : public ::testing::Test {
 protected:
  KeyRingTest() : path(std::filesystem::temp_directory_path() / ("keys_" + std::to_string(::getpid()))) {}
  ~KeyRingTest() override { std::filesystem::remove(path); }
  std::shared_ptr<const KeyRing> read(const std::string& text, const KeyRing* before = nullptr) {
    std::ofstream(path) << text;
    return KeyRing::read(path, telemetry, before);
  }
  std::string complaint(const std::string& text) {
    try {
      read(text);
    } catch (const Error& error) {
      return error.what();
    }
    return {};
  }
  const std::filesystem::path path;
  telemetry::Telemetry telemetry{{}};
};

TEST_F(KeyRingTest, FindsBySecretAlone) {
  const auto ring = read("# people\nalice " + kFirst + "\n\nbob\t" + kSecond + "  2  # now and then\n");
  ASSERT_EQ(ring->size(), 2u);
  ASSERT_TRUE(ring->find("first"));
  EXPECT_EQ(ring->find("first")->name, "alice");
  EXPECT_FALSE(ring->find("first")->quota);
  EXPECT_EQ(ring->find("second")->name, "bob");
  EXPECT_EQ(ring->find("second")->quota->per_minute(), 2);
  for (const auto& wrong : {std::string(), std::string("First"), std::string("first "), kFirst, std::string("alice")}) {
    EXPECT_FALSE(ring->find(wrong)) << wrong;
  }
}

TEST_F(KeyRingTest, SaysWhichLineIsWrongButNeverWhatItHolds) {
  EXPECT_NE(complaint("alice secret-itself\n").find("line 1"), std::string::npos);
  EXPECT_EQ(complaint("alice secret-itself\n").find("secret-itself"), std::string::npos);
  EXPECT_NE(complaint("a " + kFirst + "\nb " + kFirst + "0\n").find("line 2"), std::string::npos);
  EXPECT_NE(complaint("a " + kFirst + "\na " + kSecond + "\n").find("twice"), std::string::npos);
  EXPECT_NE(complaint("a\"b " + kFirst + "\n").find("characters"), std::string::npos);
  EXPECT_NE(complaint("a " + kFirst + " 0\n").find("quota"), std::string::npos);
  EXPECT_NE(complaint("a " + kFirst + " 5x\n").find("quota"), std::string::npos);
  EXPECT_NE(complaint("a " + kFirst + " 5 6\n").find("line 1"), std::string::npos);
  EXPECT_NE(complaint("# nobody\n").find("nobody could ask"), std::string::npos);
  EXPECT_THROW(KeyRing::read("/no/such/file", telemetry), Error);
}

TEST_F(KeyRingTest, AQuotaOutlivesReadingTheFileAgain) {
  const auto before = read("a " + kFirst + " 1\n");
  const auto now = std::chrono::steady_clock::now();
  EXPECT_FALSE(before->find("first")->quota->take(now));
  const auto same = read("a " + kFirst + " 1\nb " + kSecond + " 1\n", before.get());
  EXPECT_TRUE(same->find("first")->quota->take(now));
  EXPECT_FALSE(same->find("second")->quota->take(now));
  const auto other = read("a " + kFirst + " 3\n", same.get());
  EXPECT_FALSE(other->find("first")->quota->take(now));
}

TEST(Quota, FillsEvenly) {
  Quota quota(60);
  auto now = std::chrono::steady_clock::now();
  for (int i = 0; i < 60; ++i) EXPECT_FALSE(quota.take(now)) << i;
  ASSERT_TRUE(quota.take(now));
  EXPECT_NEAR(*quota.take(now), 1, 1e-6);
  now += 500ms;
  EXPECT_NEAR(*quota.take(now), 0.5, 1e-6);
  now += 600ms;
  EXPECT_FALSE(quota.take(now));
  EXPECT_TRUE(quota.take(now));
  now += 1h;
  for (int i = 0; i < 60; ++i) EXPECT_FALSE(quota.take(now)) << i;
  EXPECT_TRUE(quota.take(now));
}

TEST(Sha256, IsTheStandards) {
  const Digest digest = sha256("abc");
  EXPECT_EQ(digest[0], 0xba);
  EXPECT_EQ(digest[1], 0x78);
  EXPECT_EQ(digest[31], 0xad);
}

}  // namespace
}  // namespace tandem::server
