#include "plot/charts.h"

#include <algorithm>
#include <cmath>

#include "base/strings.h"

namespace tandem::plot {
namespace {

constexpr int kWidth = 860, kHeight = 460, kSmallest = 300;
constexpr double kLeft = 74, kRight = 200, kTop = 74, kBottom = 56, kLegendRow = 20;

std::string says(const LineChart& chart) {
  std::string text = cat(chart.y_label, " over ", chart.x_label, ".");
  for (const Series& s : chart.series) {
    if (s.points.empty()) continue;
    const auto& last = s.points.back();
    text += cat(' ', s.name, ": ", short_number(s.points.front().y), " at ", short_number(s.points.front().x), " to ",
                short_number(last.y), " at ", short_number(last.x), '.');
  }
  return text;
}

}  // namespace

std::string draw(const LineChart& chart) {
  const auto legend = static_cast<int>(kTop + kLegendRow * static_cast<double>(chart.series.size()) + 20);
  const int height = std::max(kHeight, legend);
  Svg svg(kWidth, height, chart.title, says(chart));
  svg.text(kLeft, 24, chart.title, Svg::Anchor::start, 15);
  svg.text(kLeft, 43, chart.note, Svg::Anchor::start, 12, "q");
  const auto place = [&](double x) { return chart.log2_x ? std::log2(x) : x; };
  const auto fine = [&](const Svg::Point& p) { return std::isfinite(place(p.x)) && std::isfinite(p.y); };
  double left = INFINITY, right = -INFINITY, top = 0;
  std::vector<double> ticks;
  for (const Series& s : chart.series) {
    for (const auto& p : s.points) {
      if (!fine(p)) continue;
      left = std::min(left, place(p.x)), right = std::max(right, place(p.x)), top = std::max(top, p.y);
      if (std::find(ticks.begin(), ticks.end(), p.x) == ticks.end()) ticks.push_back(p.x);
    }
  }
  const double bottom = height - kBottom, end = kWidth - kRight;
  if (!std::isfinite(left)) {
    svg.text((kLeft + end) / 2, height / 2.0, "nothing was measured", Svg::Anchor::middle, 15);
    return svg.finish();
  }
  if (right <= left) right = left + 1;
  top = top > 0 ? top * 1.05 : 1;
  const auto at = [&](const Svg::Point& p) {
    return Svg::Point{kLeft + (end - kLeft) * (place(p.x) - left) / (right - left),
                      bottom - (bottom - kTop) * std::clamp(p.y / top, 0.0, 1.0)};
  };
  for (double y = 0, step = step_for(top); y <= top; y += step) {
    svg.rule(kLeft, at({1, y}).y, end, at({1, y}).y);
    svg.text(kLeft - 8, at({1, y}).y + 4, short_number(y), Svg::Anchor::end);
  }
  if (!chart.log2_x) {
    ticks.clear();
    const double step = step_for(right - left);
    for (double x = std::ceil(left / step) * step; x <= right * (1 + 1e-12); x += step) ticks.push_back(x);
  }
  for (const double x : ticks) {
    svg.rule(at({x, 0}).x, kTop, at({x, 0}).x, bottom);
    svg.text(at({x, 0}).x, bottom + 18, short_number(x), Svg::Anchor::middle);
  }
  svg.text((kLeft + end) / 2, height - 12, chart.x_label, Svg::Anchor::middle, 12, "q");
  svg.text(kLeft, kTop - 6, chart.y_label, Svg::Anchor::start, 12, "q");
  for (std::size_t i = 0; i < chart.series.size(); ++i) {
    const Series& s = chart.series[i];
    std::vector<Svg::Point> points;
    std::vector<std::string> notes;
    for (const auto& p : s.points) {
      if (!fine(p)) continue;
      points.push_back(at(p));
      if (chart.dots) notes.push_back(cat(s.name, ", ", short_number(p.x), ": ", short_number(p.y)));
    }
    const int colour = static_cast<int>(i);
    svg.line(points, colour, notes);
    const double y = kTop + kLegendRow * (static_cast<double>(i) + 0.5);
    svg.square(end + 16, y - 10, 11, colour);
    svg.text(end + 33, y, s.name);
  }
  return svg.finish();
}

std::string draw(const PieChart& chart) {
  std::vector<PieChart::Slice> slices;
  double total = 0;
  for (const auto& slice : chart.slices) {
    if (!(slice.value > 0) || !std::isfinite(slice.value)) continue;
    slices.push_back(slice);
    total += slice.value;
  }
  std::string said;
  const auto percent = [&](double value) { return cat(short_number(std::round(1000 * value / total) / 10), " %"); };
  for (const auto& slice : slices) said += cat(said.empty() ? "" : ", ", slice.name, ' ', percent(slice.value));
  const int height = std::max(kSmallest, static_cast<int>(kTop + kLegendRow * static_cast<double>(slices.size()) + 20));
  Svg svg(kWidth, height, chart.title, said.empty() ? "nothing was measured" : said);
  svg.text(24, 24, chart.title, Svg::Anchor::start, 15);
  svg.text(24, 43, chart.note, Svg::Anchor::start, 12, "q");
  const double radius = 110, x = 24 + radius, y = kTop + radius;
  double from = 0;
  for (std::size_t i = 0; i < slices.size(); ++i) {
    const double to = from + slices[i].value / total;
    const std::string words =
        cat(slices[i].name, ": ", short_number(slices[i].value), ' ', chart.unit, ", ", percent(slices[i].value));
    svg.slice(x, y, radius, from, to, static_cast<int>(i), words);
    const double row = kTop + kLegendRow * (static_cast<double>(i) + 0.5);
    svg.square(2 * radius + 64, row - 10, 11, static_cast<int>(i));
    svg.text(2 * radius + 81, row, words);
    from = to;
  }
  return svg.finish();
}

}  // namespace tandem::plot
