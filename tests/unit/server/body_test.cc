#include "server/body.h"

#include <gtest/gtest.h>

#include "server/message.h"
#include "server/multipart.h"
#include "unit/server/failure.h"

namespace tandem::server {
namespace {

const BodyLimits kLimits;

std::string embeddings_failure(const std::string& json, const BodyLimits& limits = kLimits) {
  return failure([&] { parse_embeddings(json, limits); });
}
std::string classify_failure(const std::string& json, const BodyLimits& limits = kLimits) {
  return failure([&] { parse_classify(json, limits); });
}

std::string text_of(const Input& input) {
  return std::get<std::string>(input);
}
std::string bytes_of(const EncodedImage& image) {
  return {reinterpret_cast<const char*>(image.bytes->data()), image.bytes->size()};
}
std::string bytes_of(const Input& input) {
  return bytes_of(std::get<EncodedImage>(input));
}

#define EXPECT_STARTS(text, start) EXPECT_EQ((text).substr(0, std::string(start).size()), start)

TEST(EmbeddingsBody, EveryShapeOfInput) {
  EmbeddingsBody body = parse_embeddings(R"({"model":"emoji","input":"a cat","user":"u"})", kLimits);
  EXPECT_EQ(body.model, "emoji");
  ASSERT_EQ(body.inputs.size(), 1u);
  EXPECT_EQ(text_of(body.inputs[0]), "a cat");
  EXPECT_FALSE(body.base64);

  body = parse_embeddings(R"({"input":["a","","\u00e9"],"encoding_format":"base64","dimensions":16})", kLimits);
  ASSERT_EQ(body.inputs.size(), 3u);
  EXPECT_EQ(text_of(body.inputs[2]), "é");
  EXPECT_TRUE(body.base64);
  EXPECT_EQ(body.dimensions, 16);

  body = parse_embeddings(R"({"input":[1,2,3]})", kLimits);
  ASSERT_EQ(body.inputs.size(), 1u);
  EXPECT_EQ(std::get<std::vector<std::int32_t>>(body.inputs[0]), (std::vector<std::int32_t>{1, 2, 3}));

  body = parse_embeddings(R"({"input":[[1],[2,3]]})", kLimits);
  ASSERT_EQ(body.inputs.size(), 2u);
  EXPECT_EQ(std::get<std::vector<std::int32_t>>(body.inputs[1]), (std::vector<std::int32_t>{2, 3}));

  body = parse_embeddings(
      R"({"input":["data:image/png;base64,Zm9v","data: not a picture",{"text":"t"},{"image":"Zm9v"},{"image":"data:image/jpeg;base64,Zm8="},
          {"type":"image_url","image_url":{"url":"data:image/webp;charset=x;base64,Zg=="}},{"type":"text","text":"u"},"DATA:IMAGE/PNG;base64,Zm9v"]})",
      kLimits);
  ASSERT_EQ(body.inputs.size(), 8u);
  EXPECT_EQ(bytes_of(body.inputs[0]), "foo");
  EXPECT_EQ(text_of(body.inputs[1]), "data: not a picture");
  EXPECT_EQ(text_of(body.inputs[2]), "t");
  EXPECT_EQ(bytes_of(body.inputs[3]), "foo");
  EXPECT_EQ(bytes_of(body.inputs[4]), "fo");
  EXPECT_EQ(bytes_of(body.inputs[5]), "f");
  EXPECT_EQ(text_of(body.inputs[6]), "u");
  EXPECT_EQ(bytes_of(body.inputs[7]), "foo");
}

TEST(EmbeddingsBody, UnknownAndNullFieldsAreIgnored) {
  const EmbeddingsBody body =
      parse_embeddings(R"({"input":"x","encoding_format":null,"dimensions":null,"extra":{"a":[1,2]}})", kLimits);
  EXPECT_EQ(body.inputs.size(), 1u);
}

TEST(EmbeddingsBody, RefusesNamingTheField) {
  EXPECT_STARTS(embeddings_failure(""), "bad_data: the body is empty");
  EXPECT_STARTS(embeddings_failure("{"), "bad_data: the body is not valid JSON");
  EXPECT_STARTS(embeddings_failure(R"({"input":"x"} trailing)"), "bad_data: the body is not valid JSON");
  EXPECT_STARTS(embeddings_failure(R"({"input":"x","ignored":[tru]})"), "bad_data: the body is not valid JSON");
  EXPECT_STARTS(embeddings_failure("{\"input\":\"\xff\"}"), "bad_data: the body is not valid JSON");
  EXPECT_STARTS(embeddings_failure(std::string(5000, '[')), "bad_data: the body is not valid JSON");
  EXPECT_STARTS(embeddings_failure("[1]"), "bad_data: the body must be a JSON object, not a list");
  EXPECT_EQ(embeddings_failure("{}"),
            "invalid_argument: \"input\" is missing: a text, a picture as a data URI, or a list of them [input]");
  EXPECT_STARTS(embeddings_failure(R"({"input":[]})"), "invalid_argument: \"input\" is an empty list");
  EXPECT_STARTS(embeddings_failure(R"({"input":["a",7]})"),
                "invalid_argument: input[1] must be a string, a list of token ids or an object, not a number [input]");
  EXPECT_STARTS(embeddings_failure(R"({"input":[1,"a"]})"), "invalid_argument: input: a token id must be");
  EXPECT_STARTS(embeddings_failure(R"({"input":[[1,-2]]})"), "invalid_argument: input[0]: a token id must be");
  EXPECT_STARTS(embeddings_failure(R"({"input":[[]]})"), "invalid_argument: input[0] is an empty list");
  EXPECT_STARTS(embeddings_failure(R"({"input":true})"), "invalid_argument: input must be a string");
  EXPECT_STARTS(embeddings_failure(R"({"input":{"text":"a","image":"Zg"}})"),
                "invalid_argument: input must have exactly");
  EXPECT_STARTS(embeddings_failure(R"({"input":{}})"), "invalid_argument: input must have exactly");
  EXPECT_STARTS(embeddings_failure(R"({"input":["a","data:image/png;base64,!"]})"),
                "bad_data: input[1]: base64: unexpected character code 33 at position 0 [input]");
  EXPECT_STARTS(embeddings_failure(R"({"input":"data:image/svg+xml,<svg/>"})"), "invalid_argument: input: only base64");
  EXPECT_STARTS(embeddings_failure(R"({"input":{"image":"https://example.com/a.png"}})"),
                "unsupported: input.image: this server fetches no URLs");
  EXPECT_STARTS(embeddings_failure(R"({"input":{"image_url":"file:///etc/passwd"}})"),
                "invalid_argument: input.image_url");
  EXPECT_STARTS(embeddings_failure(R"({"input":"x","input":"y"})"), "invalid_argument: \"input\" is given twice");
  EXPECT_STARTS(embeddings_failure(R"({"input":"x","encoding_format":"int8"})"),
                "invalid_argument: \"encoding_format\" must be");
  for (const char* wrong : {"0", "-1", "1.5", "\"8\"", "1e99"}) {
    EXPECT_STARTS(embeddings_failure(std::string(R"({"input":"x","dimensions":)") + wrong + "}"),
                  "invalid_argument: \"dimensions\" must be a whole number");
  }
}

TEST(EmbeddingsBody, LimitsAreNamed) {
  BodyLimits limits;
  limits.max_items = 2;
  limits.max_text_bytes = 3;
  EXPECT_EQ(embeddings_failure(R"({"input":["a","b","c"]})", limits),
            "too_large: 3 inputs; the limit is 2 in one request [input]");
  EXPECT_EQ(embeddings_failure(R"({"input":["a","four"]})", limits),
            "too_large: input[1] has 4 bytes; the limit is 3 bytes a text [input]");
  EXPECT_EQ(parse_embeddings(R"({"input":["a","abc"]})", limits).inputs.size(), 2u);
}

TEST(ClassifyBody, PicturesLabelsTemplates) {
  ClassifyBody body =
      parse_classify(R"({"image":"Zm9v","labels":["a","b"],"templates":["a photo of a {}","{}"],"top":1})", kLimits);
  EXPECT_EQ(bytes_of(body.images.at(0)), "foo");
  EXPECT_EQ(body.labels->size(), 2u);
  EXPECT_EQ(body.templates->size(), 2u);
  EXPECT_EQ(body.top, 1u);

  body = parse_classify(R"({"images":["Zm9v","data:image/gif;base64,Zg=="],"template":"{}!"})", kLimits);
  EXPECT_EQ(body.images.size(), 2u);
  EXPECT_FALSE(body.labels);
  EXPECT_FALSE(body.top);
  EXPECT_EQ(body.templates->at(0), "{}!");

  EXPECT_STARTS(classify_failure(R"({"labels":["a"]})"), "invalid_argument: no picture");
  EXPECT_STARTS(classify_failure(R"({"image":"Zg","images":["Zg"]})"), "invalid_argument: give either");
  EXPECT_STARTS(classify_failure(R"({"image":"Zg","labels":[]})"), "invalid_argument: \"labels\" is an empty list");
  EXPECT_STARTS(classify_failure(R"({"image":"Zg","labels":[1]})"), "invalid_argument: labels[0] must be a string");
  EXPECT_STARTS(classify_failure(R"({"image":"Zg","template":"no hole"})"), "invalid_argument: templates[0] has no {}");
  EXPECT_STARTS(classify_failure(R"({"image":"Zg","template":"{}{}{}{}{}"})"),
                "invalid_argument: templates[0] has 5 {}");
  EXPECT_STARTS(classify_failure(R"({"image":"Zg","template":"{}","templates":["{}"]})"),
                "invalid_argument: give either");
  EXPECT_STARTS(classify_failure(R"({"image":"Zg","top":-1})"), "invalid_argument: \"top\" must be");
  // A list's pictures fail one by one.
  body = parse_classify(R"({"images":["Zg","Z","https://x/a.png"]})", kLimits);
  EXPECT_EQ(bytes_of(body.images.at(0)), "f");
  EXPECT_EQ(std::get<ItemError>(body.images.at(1)).code, Code::bad_data);
  EXPECT_STARTS(std::get<ItemError>(body.images.at(1)).message, "images[1]: base64: cut off");
  EXPECT_EQ(std::get<ItemError>(body.images.at(2)).code, Code::unsupported);
  EXPECT_STARTS(classify_failure(R"({"images":["Zg",1]})"), "invalid_argument: images[1] must be a string");
  EXPECT_STARTS(classify_failure("{\"image\":\"Zg\",\"labels\":[\"" + std::string(1025, 'a') + "\"]}"),
                "too_large: labels[0] has 1025 bytes; the limit is 1024");
  BodyLimits limits;
  limits.max_label_texts = 3;
  EXPECT_EQ(classify_failure(R"({"image":"Zg","labels":["a","b"],"templates":["{}","{}!"]})", limits),
            "too_large: 2 labels x 2 templates; the limit is 3 texts [labels]");
}

TEST(SearchBody, OneOfTextAndImage) {
  EXPECT_EQ(parse_search(R"({"text":"a","top":3})", kLimits).top, 3u);
  EXPECT_TRUE(parse_search(R"({"image":"Zg"})", kLimits).image.has_value());
  EXPECT_EQ(parse_search(R"({"text":""})", kLimits).text, "");
  EXPECT_STARTS(failure([] { parse_search("{}", kLimits); }), "invalid_argument: give either");
  EXPECT_STARTS(failure([] { parse_search(R"({"text":"a","image":"Zg"})", kLimits); }),
                "invalid_argument: give either");
  EXPECT_STARTS(failure([] { parse_search(R"({"text":"a","top":0})", kLimits); }), "invalid_argument: \"top\"");
  EXPECT_STARTS(failure([] { parse_search(R"({"text":"a","top":1001})", kLimits); }), "invalid_argument: \"top\"");
}

TEST(ClassifyForm, PartsBecomeFields) {
  const std::string form =
      "--xy\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a b;c.png\"\r\nContent-Type: "
      "image/png\r\n\r\n"
      "\x89PNG\r\n--x\r\n--xy\r\ncontent-disposition: form-data; name=labels\r\n\r\n red, green ,blue\r\n"
      "--xy\r\nContent-Disposition: form-data; name=\"template\"\r\n\r\na {}\r\n"
      "--xy\r\nContent-Disposition: form-data; name=\"top\"\r\n\r\n2\r\n--xy--\r\n";
  const ClassifyBody body = parse_classify_form(form, "multipart/form-data; boundary=\"xy\"", kLimits);
  EXPECT_EQ(bytes_of(body.images.at(0)), "\x89PNG\r\n--x");
  EXPECT_EQ(*body.labels, (std::vector<std::string>{"red", "green", "blue"}));
  EXPECT_EQ(*body.templates, (std::vector<std::string>{"a {}"}));
  EXPECT_EQ(body.top, 2u);
}

TEST(ClassifyForm, RefusesWhatIsCut) {
  const auto fails = [](const std::string& form, const std::string& type = "multipart/form-data; boundary=b") {
    return failure([&] { parse_classify_form(form, type, kLimits); });
  };
  const std::string part = "--b\r\nContent-Disposition: form-data; name=\"image\"; filename=\"x\"\r\n\r\nabc";
  EXPECT_EQ(fails(part + "\r\n--b--"), "accepted");
  EXPECT_STARTS(fails(part), "bad_data: multipart body: part 0 is cut off");
  EXPECT_STARTS(fails(part + "\r\n--b"), "bad_data: multipart body: no line break");
  EXPECT_STARTS(fails(""), "bad_data: multipart body: its boundary does not occur");
  EXPECT_STARTS(fails("--b\r\n\r\nabc\r\n--b--"), "bad_data: multipart body: part 0 has no name");
  EXPECT_STARTS(fails(part, "multipart/form-data"), "bad_data: multipart body: the Content-Type has no boundary");
  EXPECT_STARTS(fails("--b--"), "invalid_argument: no picture");
  EXPECT_THROW(parse_multipart(part + "\r\n--b--", "multipart/form-data; boundary=b", 0), Error);
}

TEST(ClassifyPicture, QueryHoldsTheRest) {
  const ClassifyBody body =
      parse_classify_picture("JPEG", "labels=a+cat%2C%20a%20dog&top=1&template=%7B%7D!&nothing", kLimits);
  EXPECT_EQ(bytes_of(body.images.at(0)), "JPEG");
  EXPECT_EQ(*body.labels, (std::vector<std::string>{"a cat", "a dog"}));
  EXPECT_EQ(body.templates->at(0), "{}!");
  EXPECT_EQ(body.top, 1u);
  EXPECT_STARTS(failure([] { parse_classify_picture("", "", kLimits); }), "invalid_argument: no picture");
  EXPECT_STARTS(failure([] { parse_classify_picture("x", "top=many", kLimits); }), "invalid_argument: \"top\"");
}

TEST(Message, NumbersReadBackAsTheSameFloat) {
  for (const float value : {0.1f, -1.0f / 3, 1e-38f, 3.4e38f, 5.877472e-39f, 0.0f, -0.0f, 123456.79f}) {
    std::string text;
    append_number(value, text);
    EXPECT_EQ(std::strtof(text.c_str(), nullptr), value) << text;
    EXPECT_LE(text.size(), 15u);
  }
  std::string text;
  append_number(std::numeric_limits<float>::quiet_NaN(), text);
  EXPECT_EQ(text, "null");
}

TEST(Message, EveryCodeHasAStatusAndTheErrorItsShape) {
  for (int code = 0; code <= static_cast<int>(Code::internal); ++code) {
    EXPECT_GE(status_of(static_cast<Code>(code)), 400);
  }
  const Answer answer = error_answer(Code::overloaded, "say \"when\"\n", "input");
  EXPECT_EQ(answer.status, 429);
  EXPECT_EQ(answer.body,
            "{\"error\":{\"message\":\"say \\\"when\\\"\\n\",\"type\":\"rate_limit_error\",\"code\":\"overloaded\","
            "\"param\":\"input\"}}\n");
  EXPECT_EQ(answer.headers.at(0).first, "Retry-After");
}

TEST(Message, AForgottenReplyIsAnswered) {
  int status = 0;
  {
    const Reply reply([&](const Answer& answer) { status = answer.status; });
  }
  EXPECT_EQ(status, 500);
  {
    const Reply reply([&](const Answer& answer) { status = answer.status; });
    reply(Answer{});
    reply(error_answer(Code::internal, "second"));
  }
  EXPECT_EQ(status, 200);
}

TEST(Bodies, ManyTinyValuesAreRefusedBeforeTheyAreParsed) {
  const std::size_t most = max_values(kLimits);
  const auto list_of = [](std::size_t values) {
    std::string json = R"({"input":[0)";
    json.reserve(2 * values + 16);
    for (std::size_t i = 1; i < values; ++i) json += ",0";
    return json + "]}";
  };
  EXPECT_STARTS(embeddings_failure(list_of(most / 2 + 1)), "too_large: the body has ");
  EXPECT_EQ(embeddings_failure(list_of(most / 2 - 10)), "accepted");
  // What simdjson indexes without its being JSON counts as well.
  for (const char* part : {"[", ",", "0 ", "\"\"", "{", "0\"\""}) {
    std::string json = "{";
    while (json.size() < most * 3) json += part;
    EXPECT_STARTS(embeddings_failure(json), "too_large: the body has ") << part;
    json = "\\\"";  // a quote that begins no string
    while (json.size() < most * 3) json += part;
    EXPECT_STARTS(embeddings_failure(json), "too_large: the body has ") << part;
  }
  // Commas within strings are text.
  EXPECT_EQ(embeddings_failure(R"({"input":")" + std::string(most + 10, ',').substr(0, 1 << 20) + "\"}"), "accepted");
  EXPECT_EQ(embeddings_failure(R"({"input":["a\\",")" + std::string(100, ',') + R"(\"[[["]})"), "accepted");
}

}  // namespace
}  // namespace tandem::server
