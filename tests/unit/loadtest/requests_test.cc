// Requests as they go over the wire: lengths that are true, inputs that no cache has seen, shares that come true.
#include "loadtest/requests.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "base/base64.h"
#include "tandem/error.h"

namespace tandem::loadtest {
namespace {

std::string body_of(const Outgoing& request) {
  std::string out;
  for (const auto piece : request.body) out += piece;
  return out;
}

MixOptions small() {
  MixOptions options;
  options.corpus.pictures = 6;
  options.corpus.width = 40;
  options.corpus.height = 30;
  return options;
}

TEST(Requests, JsonHoldsPicturesThatAreNeverTheSame) {
  MixOptions options = small();
  options.items = 3;
  const Mix mix(options, "/v1/embeddings", "host:1");
  Random random(1);
  std::set<std::string> seen;
  for (int i = 0; i < 20; ++i) {
    const auto request = mix.next(random);
    const std::string body = body_of(*request);
    EXPECT_EQ(body.size(), request->body_bytes);
    EXPECT_NE(request->head.find("\r\nContent-Length: " + std::to_string(body.size()) + "\r\n"), std::string::npos);
    EXPECT_TRUE(request->head.starts_with("POST /v1/embeddings HTTP/1.1\r\nHost: host:1\r\n"));
    const auto json = nlohmann::json::parse(body);
    ASSERT_EQ(json["input"].size(), 3u);
    for (const std::string uri : json["input"]) {
      const std::string start = "data:image/jpeg;base64,";
      ASSERT_TRUE(uri.starts_with(start));
      std::string jpeg;
      ASSERT_TRUE(decode_strict_base64(std::string_view(uri).substr(start.size()), jpeg));
      // The comment behind the first marker, and the file as it was behind that.
      EXPECT_EQ(jpeg.substr(0, 6), std::string("\xff\xd8\xff\xfe\0\x0e", 6));
      EXPECT_EQ(jpeg.substr(18, 2), "\xff\xe0");
      EXPECT_TRUE(seen.insert(jpeg).second);
    }
  }
}

TEST(Requests, RepeatedOnesAreTheSame) {
  MixOptions options = small();
  options.repeat = true;
  options.texts = 0.5;
  const Mix mix(options, "/", "h");
  Random random(1);
  std::set<std::string> seen;
  for (int i = 0; i < 2000; ++i) seen.insert(body_of(*mix.next(random)));
  EXPECT_LE(seen.size(), 6u + 256u);
}

TEST(Requests, SharesComeTrueAndSeedsDecide) {
  MixOptions options = small();
  options.texts = 0.3;
  options.corrupt = 0.2;
  const Mix mix(options, "/", "h");
  Random random(7), again(7);
  int texts = 0, bad = 0;
  constexpr int kCount = 4000;
  for (int i = 0; i < kCount; ++i) {
    const auto request = mix.next(random);
    texts += request->kind == Kind::text;
    bad += request->expect == Expect::refusal;
    EXPECT_FALSE(request->kind == Kind::text && request->expect == Expect::refusal);
    EXPECT_EQ(body_of(*request), body_of(*mix.next(again)));
  }
  EXPECT_NEAR(texts, 0.3 * kCount, 120);
  EXPECT_NEAR(bad, 0.2 * 0.7 * kCount, 110);
}

TEST(Requests, RawAndPixels) {
  MixOptions options = small();
  options.body = Body::raw;
  Random random(1);
  {
    const Mix mix(options, "/", "h");
    const auto request = mix.next(random);
    EXPECT_NE(request->head.find("\r\nContent-Type: image/jpeg\r\n"), std::string::npos);
    EXPECT_TRUE(body_of(*request).starts_with("\xff\xd8\xff\xfe"));
    EXPECT_EQ(body_of(*request).size(), request->body_bytes);
  }
  options.items = 2;
  EXPECT_THROW(Mix(options, "/", "h"), Error);
  options.body = Body::pixels;
  options.corpus.side = 16;
  {
    const Mix mix(options, "/", "h");
    const std::string body = body_of(*mix.next(random));
    EXPECT_TRUE(body.starts_with("\x93NUMPY\x01"));
    EXPECT_NE(body.find("'shape': (2, 16, 16, 3)"), std::string::npos);
    EXPECT_EQ((body.size() - 2 * 16 * 16 * 3) % 64, 0u);
  }
  options.corrupt = 1;
  const Mix mix(options, "/", "h");
  const auto request = mix.next(random);
  EXPECT_EQ(request->expect, Expect::refusal);
  EXPECT_EQ(body_of(*request).size(), request->body_bytes);
}

TEST(Requests, PicturesComeFromTheSeedInManySizes) {
  CorpusOptions options;
  options.pictures = 12;
  const auto one = make_pictures(options), two = make_pictures(options);
  std::set<std::size_t> sizes;
  for (std::size_t i = 0; i < one.size(); ++i) {
    EXPECT_EQ(one[i].bytes, two[i].bytes);
    sizes.insert(one[i].bytes.size());
  }
  EXPECT_EQ(sizes.size(), one.size());
  options.seed = 2;
  EXPECT_NE(make_pictures(options)[0].bytes, one[0].bytes);
  EXPECT_THROW(read_pictures("/no/such/folder", 1), Error);
}

}  // namespace
}  // namespace tandem::loadtest
