#include <algorithm>
#include <cmath>
#include <iomanip>
#include <sstream>

#include "base/percentile.h"
#include "base/strings.h"
#include "loadtest/report.h"
#include "plot/svg.h"

namespace tandem::loadtest {
namespace {

using plot::escaped;
using plot::step_for;

constexpr double kWidth = 860, kHeight = 460, kLeft = 74, kRight = 24, kTop = 62, kBottom = 56;

// Where the share `p` of the requests lies, counted in nines: 0 at 0 %, 1 at 90 %, 2 at 99 %.
double nines(double p) {
  return -std::log10(std::max(1 - p, 1e-9));
}

struct Frame {
  double most_nines, top;
  double x(double p) const { return kLeft + (kWidth - kLeft - kRight) * std::min(nines(p), most_nines) / most_nines; }
  double y(double ms) const { return kHeight - kBottom - (kHeight - kTop - kBottom) * std::min(ms / top, 1.0); }
};

void line(std::ostream& out, const Frame& frame, const std::vector<float>& values, const char* colour) {
  out << "<polyline fill=\"none\" stroke=\"" << colour << "\" stroke-width=\"2\" points=\"";
  constexpr int kPoints = 300;
  const double last = 1 - 1 / static_cast<double>(values.size() + 1);
  for (int i = 0; i <= kPoints; ++i) {
    const double p = std::min(1 - std::pow(10, -frame.most_nines * i / kPoints), last);
    out << frame.x(p) << ',' << frame.y(percentile(values, p)) << ' ';
  }
  out << frame.x(1) << ',' << frame.y(values.back()) << "\"/>\n";
}

void text(std::ostream& out, double x, double y, const char* anchor, std::string_view words, int size = 12) {
  out << "<text x=\"" << x << "\" y=\"" << y << "\" font-size=\"" << size << "\" text-anchor=\"" << anchor << "\">"
      << escaped(words) << "</text>\n";
}

}  // namespace

std::string plot(const LoadOptions& options, const LoadResult& result) {
  std::vector<float> latency, service;
  for (const Sample& sample : result.tally.samples) {
    latency.push_back(sample.latency);
    service.push_back(sample.service);
  }
  std::sort(latency.begin(), latency.end());
  std::sort(service.begin(), service.end());

  std::ostringstream out;
  out << std::fixed << std::setprecision(1) << "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " << kWidth
      << ' ' << kHeight
      << "\" font-family=\"system-ui, sans-serif\" fill=\"#333\" role=\"img\" aria-label=\"Latency by percentile\">\n"
      << "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n";
  const Tally& tally = result.tally;
  text(out, kLeft, 24, "start", cat("http://", options.url.authority, options.url.path), 15);
  std::ostringstream note;
  note << std::fixed << std::setprecision(1) << name_of(options.arrivals) << " arrivals";
  if (options.arrivals != Arrivals::closed) note << ", " << options.rate << " requests/s wanted";
  note << ", " << (result.seconds > 0 ? static_cast<double>(tally.measured_right) / result.seconds : 0.0)
       << " requests/s answered; " << tally.refused << " refused, " << tally.wrong << " wrong, " << tally.unanswered()
       << " unanswered";
  text(out, kLeft, 43, "start", note.str());
  if (latency.empty()) {
    text(out, kWidth / 2, kHeight / 2, "middle", "no right answer to show", 15);
    return out.str() + "</svg>\n";
  }

  const Frame frame{std::max(1.0, std::log10(static_cast<double>(latency.size() + 1))),
                    std::max(1e-3, 1.05 * static_cast<double>(latency.back()))};
  const double step = step_for(frame.top);
  for (double ms = 0; ms <= frame.top; ms += step) {
    out << "<path stroke=\"#ddd\" d=\"M" << kLeft << ' ' << frame.y(ms) << "H" << kWidth - kRight << "\"/>\n";
    text(out, kLeft - 8, frame.y(ms) + 4, "end", cat(ms, " ms"));
  }
  for (const double percent : {0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999}) {
    if (nines(percent / 100) > frame.most_nines) break;
    const double x = frame.x(percent / 100);
    out << "<path stroke=\"#eee\" d=\"M" << x << ' ' << kTop << "V" << kHeight - kBottom << "\"/>\n";
    text(out, x, kHeight - kBottom + 18, "middle", cat(percent, " %"));
  }
  text(out, (kLeft + kWidth - kRight) / 2, kHeight - 12, "middle", "share of the requests that were at least as fast");
  if (options.arrivals != Arrivals::closed) {
    line(out, frame, service, "#c97b12");
    text(out, kLeft + 12, kTop + 34, "start", "orange: from the time of sending");
  }
  line(out, frame, latency, "#5b5bd6");
  text(out, kLeft + 12, kTop + 16, "start",
       options.arrivals == Arrivals::closed ? "violet: from the time of sending (closed loop)"
                                            : "violet: from the intended time (corrected for coordinated omission)");
  return out.str() + "</svg>\n";
}

}  // namespace tandem::loadtest
