// The parsers of dialects and formats, away from any server.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "server/dialects/bodies.h"
#include "server/message.h"
#include "server/npy.h"
#include "server/openapi.h"
#include "server/routes.h"
#include "server/vectors.h"
#include "unit/server/failure.h"

namespace tandem::server {
namespace {

const BodyLimits kLimits;

std::string lift(const std::string& json, std::vector<HostPixels>& pictures) {
  return lift_pixels(json, pictures, kLimits);
}

TEST(Immich, TheTasksAreShort) {
  const auto form = [](const std::string& entries) {
    return "--b\r\nContent-Disposition: form-data; name=\"entries\"\r\n\r\n" + entries +
           "\r\n--b\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\na cat\r\n--b--\r\n";
  };
  const auto parsed = [&](const std::string& padding) {
    return failure([&] {
      parse_immich(form(R"({"clip":{"textual":{"modelName":"m","options":{"x":")" + padding + "\"}}}}"),
                   "multipart/form-data; boundary=b", kLimits);
    });
  };
  EXPECT_EQ(parsed(""), "accepted");
  EXPECT_EQ(parsed(std::string(60'000, 'x')), "accepted");
  // JSON takes several times the memory that is counted for a form.
  EXPECT_EQ(parsed(std::string(70'000, 'x')).substr(0, 9), "too_large");
}

TEST(LiftPixels, NestedListsLeaveTheText) {
  std::vector<HostPixels> pictures;
  EXPECT_EQ(lift(R"({"image":[[[1,2,3],[4,5,6]]],"text":["[[[7"]})", pictures),
            "{\"image\":\"\\u00010\",\"text\":[\"[[[7\"]}");
  ASSERT_EQ(pictures.size(), 1u);
  EXPECT_EQ(*pictures[0].pixels, (std::vector<std::uint8_t>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(pictures[0].width, 2);
  EXPECT_EQ(pictures[0].height, 1);
  pictures.clear();
  EXPECT_EQ(lift("[ [[ [1.0, 2.4 ,2.5]],[[0,255,2.55e2]] ],\n[[[9,9,9]]] ]", pictures),
            "[ \"\\u00010\",\n\"\\u00011\" ]");
  ASSERT_EQ(pictures.size(), 2u);
  EXPECT_EQ(*pictures[0].pixels, (std::vector<std::uint8_t>{1, 2, 3, 0, 255, 255}));
  pictures.clear();
  for (const char* other : {"[[1,2]]", "[1,[2,[3]]]", "[[[]]]", "[[[\"1\"]]]", "\"\\\"[[[1\"", "", "[[["}) {
    EXPECT_EQ(lift(other, pictures), other);
  }
  EXPECT_TRUE(pictures.empty());
  for (const char* wrong : {"[[[1,2]]]", "[[[1,2,3,4]]]", "[[[1,2,3]", "[[[1,2,3]],[[1,2,3],[1,2,3]]]", "[[[1,2,256]]]",
                            "[[[-1,2,3]]]", "[[[01,2,3]]]", "[[[1.,2,3]]]", "[[[1,2,nan]]]", "[[[1,,3]]]"}) {
    EXPECT_EQ(failure([&] { lift(wrong, pictures); }).substr(0, 23), "invalid_argument: image") << wrong;
  }
}

TEST(Npy, PicturesAreTheBodyItself) {
  std::string head = npy_head(1, 1, false);
  const auto made = [](const std::string& shape, std::size_t bytes, const std::string& type = "|u1",
                       const std::string& order = "False") {
    std::string dictionary = "{'descr': '" + type + "', 'fortran_order': " + order + ", 'shape': " + shape + ", }";
    dictionary.append(63 - (10 + dictionary.size()) % 64, ' ');
    dictionary += '\n';
    std::string out = "\x93NUMPY\x01";
    out += '\0';
    out += static_cast<char>(dictionary.size());
    out += '\0';
    return std::make_shared<const std::string>(out + dictionary + std::string(bytes, '\x07'));
  };
  const auto body = made("(2, 4, 5, 3)", 120);
  const std::vector<HostPixels> pictures = pixels_of_npy(body, 10);
  ASSERT_EQ(pictures.size(), 2u);
  EXPECT_EQ(pictures[0].width, 5);
  EXPECT_EQ(pictures[0].height, 4);
  EXPECT_EQ(reinterpret_cast<const char*>(pictures[1].shared.get()), body->data() + body->size() - 60);
  EXPECT_EQ(pixels_of_npy(made("(4, 5, 3)", 60), 10).size(), 1u);
  const auto fails = [&](const std::shared_ptr<const std::string>& what) {
    return failure([&] { pixels_of_npy(what, 10); });
  };
  EXPECT_EQ(fails(made("(2, 4, 5, 3)", 119)).substr(0, 9), "bad_data:");
  EXPECT_EQ(fails(made("(2, 4, 5, 3)", 121)).substr(0, 9), "bad_data:");
  EXPECT_EQ(fails(made("(99, 1, 1, 3)", 297)).substr(0, 10), "too_large:");
  EXPECT_EQ(fails(made("(2147483647, 2147483647, 2147483647, 3)", 3)).substr(0, 10), "too_large:");
  EXPECT_EQ(fails(made("(1, 2147483647, 2147483647, 3)", 3)).substr(0, 9), "bad_data:");
  EXPECT_EQ(fails(made("(0, 4, 5, 3)", 0)).substr(0, 17), "invalid_argument:");
  EXPECT_EQ(fails(made("(2, 4, 5, 4)", 160)).substr(0, 17), "invalid_argument:");
  EXPECT_EQ(fails(made("(1, 4, 5, 3)", 240, "<f4")).substr(0, 12), "unsupported:");
  EXPECT_EQ(fails(made("(1, 4, 5, 3)", 60, "|u1", "True")).substr(0, 12), "unsupported:");
  for (const std::size_t size : {0u, 5u, 9u, 12u, 40u}) {
    EXPECT_EQ(fails(std::make_shared<const std::string>(body->substr(0, size))).substr(0, 9), "bad_data:") << size;
  }
  EXPECT_EQ(head.size() % 64, 0u);
}

TEST(Vectors, HalvesAreRoundedToNearestEven) {
  for (const auto& [value, bits] :
       std::initializer_list<std::pair<float, std::uint16_t>>{{0.0f, 0x0000},
                                                              {-0.0f, 0x8000},
                                                              {1.0f, 0x3c00},
                                                              {-2.0f, 0xc000},
                                                              {65504.0f, 0x7bff},
                                                              {65519.0f, 0x7bff},
                                                              {65520.0f, 0x7c00},
                                                              {1e9f, 0x7c00},
                                                              {0x1p-14f, 0x0400},
                                                              {0x1p-24f, 0x0001},
                                                              {0x1p-25f, 0x0000},
                                                              {0x1.8p-25f, 0x0001},
                                                              {0x1.8p-24f, 0x0002},
                                                              {1.0f + 0x1p-11f, 0x3c00},
                                                              {1.0f + 0x1.8p-10f, 0x3c02},
                                                              {0x1.ff8p-15f, 0x03ff},
                                                              {0x1.ffcp-15f, 0x0400},
                                                              {std::numeric_limits<float>::infinity(), 0x7c00}}) {
    EXPECT_EQ(half_of(value), bits) << value;
  }
  EXPECT_EQ(half_of(std::numeric_limits<float>::quiet_NaN()) & 0x7e00, 0x7e00);
}

TEST(Vectors, AcceptIsReadAsClientsWriteIt) {
  EXPECT_EQ(wire_of("").kind, Wire::json);
  EXPECT_EQ(wire_of("application/x-npy").kind, Wire::npy);
  EXPECT_EQ(wire_of("Application/Octet-Stream ; dtype=FLOAT16").kind, Wire::raw);
  EXPECT_TRUE(wire_of("application/octet-stream;dtype=float16").half);
  EXPECT_EQ(wire_of("text/html, application/x-npy;q=0.2, */*;q=0.1").kind, Wire::npy);
  EXPECT_EQ(wire_of("application/x-npy;q=0").kind, Wire::json);
  EXPECT_EQ(wire_of("application/json, application/x-npy").kind, Wire::json);
  EXPECT_EQ(wire_of(",;,q=;;").kind, Wire::json);
}

TEST(Dialects, CoheresListsAndTypesAreCheckedOneByOne) {
  const CohereBody body = parse_cohere(
      R"({"texts":["a","\u00e9\""],"embedding_types":["ubinary","float","float"],"output_dimension":8,"truncate":"NONE",)"
      R"("priority":3,"input_type":"classification","max_tokens":5})",
      kLimits);
  EXPECT_EQ(body.name, "texts");
  EXPECT_EQ(body.texts, (std::vector<std::string>{"\"a\"", "\"\u00e9\\\"\""}));
  EXPECT_EQ(body.types, (std::vector<CohereType>{CohereType::ubinary, CohereType::values}));
  EXPECT_EQ(body.dimensions, 8);
  EXPECT_TRUE(body.refuse_long);
  const auto fails = [](const char* json) { return failure([&] { parse_cohere(json, kLimits); }); };
  EXPECT_EQ(fails("{}"), "invalid_argument: give \"texts\", \"images\" or \"inputs\", a list [texts]");
  EXPECT_EQ(fails(R"({"texts":["a"],"inputs":[{"content":"b"}]})"),
            "invalid_argument: give only one of \"texts\" and \"inputs\" [inputs]");
  EXPECT_EQ(fails(R"({"texts":["a",{"text":"b"}]})").substr(0, 25), "invalid_argument: texts[1");
  EXPECT_EQ(fails(R"({"inputs":["a"]})"), "invalid_argument: inputs[0] must be an object with \"content\" [inputs]");
  EXPECT_EQ(fails(R"({"images":[[1]]})").substr(0, 26), "invalid_argument: images[0");
  EXPECT_NE(fails(R"({"texts":["a"],"embedding_types":["int8"]})").find("\"int8\" is not computed here"),
            std::string::npos);
  EXPECT_NE(fails(R"({"texts":["a"],"embedding_types":"float"})").find("must be a list"), std::string::npos);
}

TEST(Dialects, ErrorsHaveTheShapeOfTheDialect) {
  const Answer error = error_answer(Code::overloaded, "full");
  EXPECT_EQ(in_shape(error, Errors::tei).body, R"({"error":"full","error_type":"Overloaded"})");
  EXPECT_EQ(in_shape(error, Errors::tei).status, 429);
  EXPECT_EQ(in_shape(error, Errors::bare).body, R"({"error":"full"})");
  EXPECT_EQ(in_shape(error, Errors::message).body, R"({"message":"full"})");
  EXPECT_EQ(in_shape(error, Errors::openai).body, error.body);
  EXPECT_EQ(in_shape(error_answer(Code::device_failure, "x"), Errors::tei).status, 424);
}

TEST(Dialects, EveryRouteOfTheApiIsDescribed) {
  for (const Route& route : routes()) {
    const bool page = route.path == "/docs" || route.path == "/assets/*" || route.path == "/favicon.ico";
    EXPECT_EQ(route.operation == nullptr, page) << route.path;
    const bool needs_no_body = route.path == "/cache/clear" || route.path == "/clear_cache";
    if (!page) {
      EXPECT_EQ(route.operation->body != nullptr, route.method == "POST" && !needs_no_body) << route.path;
    }
  }
}

TEST(Bodies, NumbersOfAnyLengthAreJson) {
  EXPECT_EQ(
      parse_embeddings(R"({"input":"a","x":14191585375474258280448,"y":-99999999999999999999})", kLimits).inputs.size(),
      1u);
  EXPECT_EQ(parse_embeddings(R"({"input":"123456789012345678901234567890","dimensions":4.0})", kLimits).dimensions, 4);
  EXPECT_EQ(std::get<std::string>(
                parse_embeddings(R"({"x":123456789012345678901234567890,"input":"12345678901234567890"})", kLimits)
                    .inputs[0]),
            "12345678901234567890");
  EXPECT_NE(failure([] { parse_embeddings(R"({"input":"a","x":014191585375474258280448})", kLimits); }), "accepted");
}

}  // namespace
}  // namespace tandem::server
