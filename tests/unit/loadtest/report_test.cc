// That a report holds everything that was counted.
#include "loadtest/report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tandem/error.h"

namespace tandem::loadtest {
namespace {

LoadResult some_result() {
  LoadResult result;
  Tally& tally = result.tally;
  tally.sent = 10;
  tally.answered = 8;
  tally.right = 5;
  tally.refused = 2;
  tally.wrong = 1;
  tally.lost[static_cast<std::size_t>(Lost::timeout)] = 2;
  tally.statuses = {{200, 5}, {429, 2}, {500, 1}};
  tally.examples = {"answered 500: <oh>"};
  tally.measured_right = tally.measured_items = 5;
  for (const float ms : {1.0f, 2.0f, 3.0f, 4.0f, 90.0f}) tally.samples.push_back({ms, ms / 2, Kind::image});
  result.seconds = 2;
  return result;
}

TEST(Report, HoldsEverythingThatWasCounted) {
  LoadOptions options;
  options.url = parse_url("http://127.0.0.1:7860");
  options.arrivals = Arrivals::poisson;
  options.rate = 5;
  const auto json = report(options, some_result());
  EXPECT_EQ(json["requests"]["sent"], 10);
  EXPECT_EQ(json["requests"]["unanswered"], 2);
  EXPECT_EQ(json["unanswered"]["timeout"], 2);
  EXPECT_EQ(json["statuses"]["429"], 2);
  EXPECT_EQ(json["requests_per_second"], 2.5);
  EXPECT_EQ(json["latency_ms"]["p50"], 3);
  EXPECT_EQ(json["latency_ms"]["max"], 90);
  EXPECT_EQ(json["service_ms"]["max"], 45);
  EXPECT_TRUE(json["text_latency_ms"].is_null());
  EXPECT_NE(json["latency_from"].get<std::string>().find("corrected for coordinated omission"), std::string::npos);
  const std::string people = for_people(options, some_result());
  EXPECT_NE(people.find("2 unanswered [timeout 2]"), std::string::npos) << people;
}

TEST(Report, PlotIsOneSvgWithBothLines) {
  LoadOptions options;
  options.url = parse_url("http://127.0.0.1:7860/a?b=<&");
  options.arrivals = Arrivals::constant;
  const std::string svg = plot(options, some_result());
  EXPECT_TRUE(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
  EXPECT_EQ(svg.find("nan,"), std::string::npos);
  EXPECT_EQ(svg.find(",nan"), std::string::npos);
  EXPECT_NE(svg.find("b=&lt;&amp;"), std::string::npos);
  std::size_t lines = 0;
  for (std::size_t at = svg.find("<polyline"); at != std::string::npos; at = svg.find("<polyline", at + 1)) ++lines;
  EXPECT_EQ(lines, 2u);
  EXPECT_NE(plot(options, {}).find("no right answer"), std::string::npos);
}

TEST(Url, Parts) {
  const Url url = parse_url("http://[::1]:7860/infer?x=1#part");
  EXPECT_EQ(url.host, "::1");
  EXPECT_EQ(url.port, "7860");
  EXPECT_EQ(url.path, "/infer?x=1");
  EXPECT_EQ(url.authority, "[::1]:7860");
  EXPECT_EQ(parse_url("http://localhost/").path, "");
  EXPECT_EQ(parse_url("http://localhost").port, "80");
  for (const char* bad : {"", "localhost:80", "http://", "http://:80", "http://a:b", "http://a:70000", "http://a b",
                          "http://u@a", "http://[::1", "http://[::1]x", "http://a?b", "ftp://a", "https://a"}) {
    EXPECT_THROW(parse_url(bad), Error) << bad;
  }
}

}  // namespace
}  // namespace tandem::loadtest
