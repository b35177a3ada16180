#include "plot/charts.h"

#include <gtest/gtest.h>

#include <cmath>
#include <regex>

namespace tandem::plot {
namespace {

std::size_t count(const std::string& text, const std::string& pattern) {
  const std::regex regex(pattern);
  return static_cast<std::size_t>(std::distance(std::sregex_iterator(text.begin(), text.end(), regex), {}));
}

TEST(ShortNumber, ThreeDigits) {
  EXPECT_EQ(short_number(0), "0");
  EXPECT_EQ(short_number(0.01234), "0.0123");
  EXPECT_EQ(short_number(12.345), "12.3");
  EXPECT_EQ(short_number(123.45), "123");
  EXPECT_EQ(short_number(1234), "1234");
  EXPECT_EQ(short_number(12345), "12.3k");
  EXPECT_EQ(short_number(1234567), "1.23M");
  EXPECT_EQ(short_number(256), "256");
}

TEST(Step, AboutFive) {
  EXPECT_DOUBLE_EQ(step_for(5), 1);
  EXPECT_DOUBLE_EQ(step_for(10), 2);
  EXPECT_DOUBLE_EQ(step_for(1000), 200);
  EXPECT_DOUBLE_EQ(step_for(0.03), 0.005);
}

TEST(LineChart, HasItsPointsWhereTheyBelong) {
  LineChart chart{"QPS <over> batch",
                  "note",
                  "batch",
                  "items/s",
                  true,
                  true,
                  {{"fp32 & co", {{1, 10}, {2, 20}, {4, 30}}}, {"bf16", {{1, 5}}}}};
  const std::string svg = draw(chart);
  EXPECT_NE(svg.find("<title id=\"title\">QPS &lt;over&gt; batch</title>"), std::string::npos);
  EXPECT_NE(svg.find("<desc id=\"desc\">"), std::string::npos);
  EXPECT_NE(svg.find("prefers-color-scheme: dark"), std::string::npos);
  EXPECT_EQ(count(svg, "<polyline"), 2U);
  EXPECT_EQ(count(svg, "<circle"), 4U);
  std::smatch points;
  ASSERT_TRUE(std::regex_search(svg, points,
                                std::regex("points=\"([0-9.]+),([0-9.]+) ([0-9.]+),([0-9.]+) ([0-9.]+),([0-9.]+)\"")));
  const auto at = [&](std::size_t i) { return std::stod(points[i].str()); };
  EXPECT_NEAR(at(3) - at(1), at(5) - at(3), 0.2);  // equal steps for each doubling
  EXPECT_NEAR(at(2) - at(4), at(4) - at(6), 0.2);  // and for each ten, upwards
  EXPECT_GT(at(2), at(4));
}

TEST(LineChart, NothingAndWhatIsNoNumber) {
  LineChart chart{"none", "", "batch", "ms", true, true, {{"empty", {}}, {"wild", {{1, NAN}, {0, 3}}}}};
  EXPECT_NE(draw(chart).find("nothing was measured"), std::string::npos);
  chart.series.push_back({"one", {{8, 2}}});
  const std::string svg = draw(chart);
  EXPECT_EQ(count(svg, "<circle"), 1U);
  EXPECT_EQ(svg.find("nan,"), std::string::npos);
  EXPECT_EQ(svg.find("inf,"), std::string::npos);
}

TEST(PieChart, SlicesFillTheCircle) {
  const std::string svg = draw(PieChart{"stages", "", "ms", {{"attention", 3}, {"fc1", 1}, {"nothing here", 0}}});
  EXPECT_EQ(count(svg, "<path class=\"f"), 2U);
  EXPECT_NE(svg.find("attention: 3 ms, 75 %"), std::string::npos);
  EXPECT_NE(svg.find("fc1: 1 ms, 25 %"), std::string::npos);
  EXPECT_EQ(svg.find("nothing here"), std::string::npos);
  EXPECT_EQ(count(draw(PieChart{"whole", "", "ms", {{"all", 2}}}), "<path class=\"f"), 1U);
  EXPECT_NE(draw(PieChart{"empty", "", "ms", {}}).find("nothing was measured"), std::string::npos);
}

}  // namespace
}  // namespace tandem::plot
