// The charts that reports are made of.
#pragma once

#include <string>
#include <vector>

#include "plot/svg.h"

namespace tandem::plot {

struct Series {
  std::string name;
  std::vector<Svg::Point> points;  ///< in the chart's own units
};

struct LineChart {
  std::string title, note;  ///< note: a second line, smaller
  std::string x_label, y_label;
  bool log2_x = false;  ///< x are batch sizes: equal steps for each doubling
  bool dots = true;
  std::vector<Series> series;
};
/// Every series a line with its name; the y axis begins at 0. Points that are not finite are left out.
std::string draw(const LineChart& chart);

struct PieChart {
  std::string title, note;
  std::string unit;  ///< of the values
  struct Slice {
    std::string name;
    double value;
  };
  std::vector<Slice> slices;  ///< drawn from the top, clockwise; values not above 0 are left out
};
std::string draw(const PieChart& chart);

}  // namespace tandem::plot
