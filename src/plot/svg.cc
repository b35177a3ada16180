#include "plot/svg.h"

#include <array>
#include <cmath>
#include <iomanip>
#include <numbers>

namespace tandem::plot {
namespace {

// Told apart also by people who see few colours (after Okabe and Ito 2008), and readable on both grounds.
constexpr std::array<const char*, Svg::kColours> kLight{"#0072b2", "#d55e00", "#00876c", "#b04f94",
                                                        "#8a6d00", "#3a9bd1", "#5b5b5b", "#7a3e9d"};
constexpr std::array<const char*, Svg::kColours> kDark{"#56b4e9", "#ff9a4d", "#2fd0a6", "#e29bc9",
                                                       "#f0e442", "#8fd0ff", "#bdbdbd", "#c39be6"};

std::string shades(const std::array<const char*, Svg::kColours>& colours) {
  std::string css;
  for (std::size_t i = 0; i < colours.size(); ++i) {
    const std::string number = std::to_string(i);
    css += ".c" + number + "{stroke:" + colours[i] + ";fill:none}.f" + number + "{fill:" + colours[i] + "}";
  }
  return css;
}

}  // namespace

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '&': out += "&amp;"; break;
      case '"': out += "&quot;"; break;
      default: out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return out;
}

double step_for(double top) {
  const double base = std::pow(10, std::floor(std::log10(top / 5)));
  for (const double times : {1.0, 2.0, 5.0}) {
    if (top / (base * times) <= 6) return base * times;
  }
  return base * 10;
}

std::string short_number(double value) {
  const double size = std::abs(value);
  const char* unit = "";
  if (size >= 999.5e6)
    value /= 1e9, unit = "G";
  else if (size >= 999.5e3)
    value /= 1e6, unit = "M";
  else if (size >= 9999.5)
    value /= 1e3, unit = "k";
  std::ostringstream out;
  const double shown = std::abs(value);
  if (shown >= 99.95 || shown == 0) {
    out << std::fixed << std::setprecision(0) << value;
  } else {
    out << std::setprecision(3) << value;
  }
  return out.str() + unit;
}

Svg::Svg(int width, int height, std::string_view title, std::string_view description) {
  out_ << std::fixed << std::setprecision(1) << "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " << width
       << ' ' << height << "\" width=\"" << width << "\" height=\"" << height
       << "\" role=\"img\" aria-labelledby=\"title desc\" font-family=\"system-ui, sans-serif\">\n<title id=\"title\">"
       << escaped(title) << "</title>\n<desc id=\"desc\">" << escaped(description) << "</desc>\n<style>"
       << ".g{fill:#ffffff}text{fill:#222222}.q{fill:#666666}.r{stroke:#d8d8d8}" << shades(kLight)
       << "@media (prefers-color-scheme: dark){.g{fill:#16181d}text{fill:#e8e8e8}.q{fill:#a8a8a8}.r{stroke:#3a3d44}"
       << shades(kDark) << "}</style>\n<rect class=\"g\" width=\"100%\" height=\"100%\"/>\n";
}

void Svg::text(double x, double y, std::string_view words, Anchor anchor, int size, std::string_view css_class) {
  constexpr std::array<const char*, 3> kAnchors{"start", "middle", "end"};
  out_ << "<text x=\"" << x << "\" y=\"" << y << "\" font-size=\"" << size << "\" text-anchor=\""
       << kAnchors[static_cast<std::size_t>(anchor)] << '"';
  if (!css_class.empty()) out_ << " class=\"" << css_class << '"';
  out_ << '>' << escaped(words) << "</text>\n";
}

void Svg::rule(double x1, double y1, double x2, double y2) {
  out_ << "<path class=\"r\" d=\"M" << x1 << ' ' << y1 << 'L' << x2 << ' ' << y2 << "\"/>\n";
}

void Svg::line(const std::vector<Point>& points, int colour, const std::vector<std::string>& notes) {
  out_ << "<polyline class=\"c" << colour % kColours << "\" stroke-width=\"2\" stroke-linejoin=\"round\" points=\"";
  for (std::size_t i = 0; i < points.size(); ++i) {
    out_ << (i > 0 ? " " : "") << points[i].x << ',' << points[i].y;
  }
  out_ << "\"/>\n";
  for (std::size_t i = 0; i < points.size() && i < notes.size(); ++i) {
    out_ << "<circle class=\"f" << colour % kColours << "\" cx=\"" << points[i].x << "\" cy=\"" << points[i].y
         << "\" r=\"3.5\"><title>" << escaped(notes[i]) << "</title></circle>\n";
  }
}

void Svg::slice(double x, double y, double radius, double from, double to, int colour, std::string_view note) {
  out_ << "<path class=\"f" << colour % kColours << "\" d=\"";
  if (to - from > 0.9999) {  // an arc from a point to itself would be nothing
    out_ << 'M' << x - radius << ' ' << y << 'a' << radius << ' ' << radius << " 0 1 1 " << 2 * radius << " 0a"
         << radius << ' ' << radius << " 0 1 1 " << -2 * radius << " 0Z";
  } else {
    const auto at = [&](double turn) {
      const double angle = 2 * std::numbers::pi * turn;
      return Point{x + radius * std::sin(angle), y - radius * std::cos(angle)};
    };
    const Point a = at(from), b = at(to);
    out_ << 'M' << x << ' ' << y << 'L' << a.x << ' ' << a.y << 'A' << radius << ' ' << radius << " 0 "
         << (to - from > 0.5 ? 1 : 0) << " 1 " << b.x << ' ' << b.y << 'Z';
  }
  out_ << "\"><title>" << escaped(note) << "</title></path>\n";
}

void Svg::square(double x, double y, double side, int colour) {
  out_ << "<rect class=\"f" << colour % kColours << "\" x=\"" << x << "\" y=\"" << y << "\" width=\"" << side
       << "\" height=\"" << side << "\"/>\n";
}

std::string Svg::finish() {
  return out_.str() + "</svg>\n";
}

}  // namespace tandem::plot
