// Drawings for reports, as SVG: one file that every browser shows, in light and in dark surroundings.
#pragma once

#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::plot {

/// What XML reserves is escaped; what it forbids (control characters) becomes a blank.
std::string escaped(std::string_view text);

/// 1, 2 or 5 times a power of ten, so that about five of them fill `top`. top must be above 0.
double step_for(double top);

/// 1234567 → "1.23M", 0.012 → "0.012": three digits, for axes and labels.
std::string short_number(double value);

/// A drawing of fixed size. Coordinates are pixels from the top left corner. Colours are classes, c0 to c7, whose
/// shades differ in light and in dark.
class Svg {
 public:
  static constexpr int kColours = 8;
  /// title and description: what somebody hears who cannot see it.
  Svg(int width, int height, std::string_view title, std::string_view description);

  enum class Anchor { start, middle, end };
  void text(double x, double y, std::string_view words, Anchor anchor = Anchor::start, int size = 12,
            std::string_view css_class = "");
  /// A thin line of a grid or an axis.
  void rule(double x1, double y1, double x2, double y2);
  struct Point {
    double x, y;
  };
  /// A line through points in a colour of 0 to 7; each has a dot with a text that shows when pointed at, where `notes`
  /// has one for it.
  void line(const std::vector<Point>& points, int colour, const std::vector<std::string>& notes = {});
  /// A slice of a circle, from and to in parts of a turn, clockwise from the top.
  void slice(double x, double y, double radius, double from, double to, int colour, std::string_view note);
  /// A small square, for a legend.
  void square(double x, double y, double side, int colour);

  std::string finish();

 private:
  std::ostringstream out_;
};

}  // namespace tandem::plot
