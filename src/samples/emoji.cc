// The emoji set: drawings of the bundled model's emoji, composed when they are asked for. What tools/train_emoji's test
// set is, without Python: grounds, sizes, tilt and wear of the same kinds, drawn by other code than trained the model.
#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <iterator>
#include <map>
#include <numbers>

#include "base/strings.h"
#include "hub/demo_names.h"
#include "hub/hub.h"
#include "image/decode.h"
#include "samples/pictures.h"
#include "samples/random.h"

namespace tandem::samples {
namespace {

constexpr int kSide = 160;  // of a picture, in pixels: larger than the model's 128, as real ones are

struct Colour {
  double r = 0, g = 0, b = 0, a = 0;  // 0 to 255 and 0 to 1; multiplied by a where it is a sample of a drawing
  Colour operator*(double w) const { return {r * w, g * w, b * w, a * w}; }
  Colour operator+(const Colour& o) const { return {r + o.r, g + o.g, b + o.b, a + o.a}; }
};

Colour random_colour(Random& random, double most = 255) {
  return {random.between(0, most), random.between(0, most), random.between(0, most), 1};
}

/// One square of the sheet, sampled between its pixels; outside of it there is nothing.
struct Tile {
  const image::Drawing& sheet;
  int left, top, side;

  Colour pixel(int x, int y) const {
    if (x < 0 || y < 0 || x >= side || y >= side) return {};
    const auto at = 4 * (static_cast<std::size_t>(top + y) * static_cast<std::size_t>(sheet.width) +
                         static_cast<std::size_t>(left + x));
    const double alpha = sheet.rgba[at + 3] / 255.0;
    return {sheet.rgba[at] * alpha, sheet.rgba[at + 1] * alpha, sheet.rgba[at + 2] * alpha, alpha};
  }
  /// x and y in pixels of the tile; the first pixel's middle is (0.5, 0.5).
  Colour at(double x, double y) const {
    const double fx = std::floor(x - 0.5), fy = std::floor(y - 0.5), wx = x - 0.5 - fx, wy = y - 0.5 - fy;
    const int ix = static_cast<int>(fx), iy = static_cast<int>(fy);
    return (pixel(ix, iy) * (1 - wx) + pixel(ix + 1, iy) * wx) * (1 - wy) +
           (pixel(ix, iy + 1) * (1 - wx) + pixel(ix + 1, iy + 1) * wx) * wy;
  }
};

using Page = std::vector<Colour>;  // kSide x kSide

/// Puts a drawing of `side` pixels, turned by `angle`, with its middle at (x, y).
void put(Page& page, const Tile& tile, double x, double y, double side, double angle) {
  const double scale = tile.side / side, c = std::cos(angle) * scale, s = std::sin(angle) * scale;
  const int samples = scale > 1 ? 2 : 1;  // each way, in a pixel that shows more than one of the drawing's
  const double reach = side * std::numbers::sqrt2 / 2;
  const auto first = [](double v) { return std::clamp(static_cast<int>(std::floor(v)), 0, kSide); };
  for (int py = first(y - reach); py < first(y + reach + 1); ++py) {
    for (int px = first(x - reach); px < first(x + reach + 1); ++px) {
      Colour sum;
      for (int i = 0; i < samples * samples; ++i) {
        const double dx = px + (i % samples + 0.5) / samples - x, dy = py + (i / samples + 0.5) / samples - y;
        sum = sum + tile.at(c * dx + s * dy + tile.side / 2.0, c * dy - s * dx + tile.side / 2.0);
      }
      sum = sum * (1.0 / (samples * samples));
      Colour& under = page[static_cast<std::size_t>(py) * kSide + static_cast<std::size_t>(px)];
      under = under * (1 - sum.a) + sum;
    }
  }
}

/// A colour for every pixel, from `cells` x `cells` random ones.
Page clouds(Random& random, int cells) {
  std::vector<Colour> grid;
  for (int i = 0; i < cells * cells; ++i) grid.push_back(random_colour(random));
  Page page(static_cast<std::size_t>(kSide) * kSide);
  for (int y = 0; y < kSide; ++y) {
    for (int x = 0; x < kSide; ++x) {
      const double gx = static_cast<double>(x) / kSide * (cells - 1), gy = static_cast<double>(y) / kSide * (cells - 1);
      const int ix = static_cast<int>(gx), iy = static_cast<int>(gy);
      const auto at = [&](int column, int row) {
        return grid[static_cast<std::size_t>(std::min(row, cells - 1) * cells + std::min(column, cells - 1))];
      };
      page[static_cast<std::size_t>(y) * kSide + static_cast<std::size_t>(x)] =
          (at(ix, iy) * (1 - gx + ix) + at(ix + 1, iy) * (gx - ix)) * (1 - gy + iy) +
          (at(ix, iy + 1) * (1 - gx + ix) + at(ix + 1, iy + 1) * (gx - ix)) * (gy - iy);
    }
  }
  return page;
}

/// One colour, a gradient of two, or two halves.
Page ramp(Random& random, double most, bool two, bool hard) {
  const Colour from = random_colour(random, most), to = two ? random_colour(random, most) : from;
  const double angle = random.between(0, 2 * std::numbers::pi), edge = random.between(0.3, 0.7);
  Page page(static_cast<std::size_t>(kSide) * kSide);
  for (int y = 0; y < kSide; ++y) {
    for (int x = 0; x < kSide; ++x) {
      double part = (x * std::cos(angle) + y * std::sin(angle)) / kSide - (std::cos(angle) + std::sin(angle)) / 2 + 0.5;
      part = hard ? (part > edge ? 1 : 0) : std::clamp(part, 0.0, 1.0);
      page[static_cast<std::size_t>(y) * kSide + static_cast<std::size_t>(x)] = from * (1 - part) + to * part;
    }
  }
  return page;
}

/// Contrast, brightness and grain, each of them now and then; grey where asked.
std::shared_ptr<std::vector<std::uint8_t>> developed(Random& random, const Page& page, bool grey) {
  const double contrast = random.chance(0.4) ? random.between(0.65, 1.25) : 1;
  const double light = random.chance(0.4) ? random.between(0.75, 1.2) : 1;
  const double grain = random.chance(0.25) ? random.between(4, 22) : 0;
  auto pixels = std::make_shared<std::vector<std::uint8_t>>();
  pixels->reserve(page.size() * 3);
  for (const Colour& colour : page) {
    std::array<double, 3> rgb{colour.r, colour.g, colour.b};
    if (grey) rgb.fill(0.299 * colour.r + 0.587 * colour.g + 0.114 * colour.b);
    for (const double value : rgb) {
      // A sum of four uniform numbers, of deviation 1 once scaled: near enough to a normal one for grain.
      double noise = 0;
      for (int i = 0; grain > 0 && i < 4; ++i) noise += random.unit() - 0.5;
      const double shown = ((value - 128) * contrast + 128) * light + noise * std::numbers::sqrt3 * grain;
      pixels->push_back(static_cast<std::uint8_t>(std::lround(std::clamp(shown, 0.0, 255.0))));
    }
  }
  return pixels;
}

class EmojiPictures final : public Pictures {
 public:
  explicit EmojiPictures(const PicturesOptions& options) : seed_(options.seed) {
    const std::filesystem::path folder = hub::bundled_models() / "emoji";
    names_ = hub::read_demo_names(folder);
    if (names_.sheet.empty() || names_.tile < 1 || names_.columns < 1) {
      throw Error(Code::bad_data, cat((folder / "names.json").string(),
                                      " names no sheet of drawings: make emoji "
                                      "pictures with tools/train_emoji/make_testset.py and give their folder"));
    }
    const std::vector<std::byte> bytes = *read_image((folder / names_.sheet).string()).bytes;
    sheet_ = image::decode_drawing(bytes);
    const auto rows = (static_cast<int>(names_.names.size()) + names_.columns - 1) / names_.columns;
    if (names_.names.empty() || sheet_.width < names_.columns * names_.tile || sheet_.height < rows * names_.tile) {
      throw Error(Code::bad_data, cat((folder / names_.sheet).string(), " is ", sheet_.width, " x ", sheet_.height,
                                      " pixels, too small for ", names_.names.size(), " drawings"));
    }
    labels_ = options.labels.empty() ? names_.names : options.labels;
    std::map<int, std::vector<std::size_t>> alike;
    for (std::size_t i = 0; i < names_.names.size(); ++i) {
      const std::size_t at = options.labels.empty() ? i : find_label(labels_, names_.names[i]);
      if (at < labels_.size()) alike[names_.classes[i]].push_back(at);
    }
    accepted_.resize(names_.names.size());
    for (std::size_t i = 0; i < accepted_.size(); ++i) accepted_[i] = alike[names_.classes[i]];
    const std::size_t all = names_.names.size();
    if (options.count == 0 || options.count <= all) {
      for (const std::size_t i : evenly(all, options.count)) chosen_.push_back(i);
    } else {
      for (std::size_t i = 0; i < options.count; ++i) chosen_.push_back(i);
    }
  }
  std::size_t size() const override { return chosen_.size(); }
  std::string name(std::size_t i) const override {
    return cat("emoji:", chosen_.at(i) / names_.names.size(), ':', names_.names[drawing(i)]);
  }
  ImageInput open(std::size_t i) const override {
    Random random(seed_, chosen_.at(i));
    Page page = ground(random);
    const bool small = random.chance(0.4);
    const double side = kSide * (small ? random.between(0.15, 0.4) : random.between(0.4, 0.95));
    const double room = (kSide - side) / 2;
    const double x = kSide / 2.0 + room * random.between(-1, 1), y = kSide / 2.0 + room * random.between(-1, 1);
    put(page, tile(drawing(i)), x, y, side, random.between(-0.2, 0.2));
    return HostPixels{developed(random, page, random.chance(0.08)), kSide, kSide};
  }
  std::span<const std::size_t> accepted(std::size_t i) const override { return accepted_[drawing(i)]; }
  const std::vector<std::string>& labels() const override { return labels_; }

 private:
  std::size_t drawing(std::size_t i) const { return chosen_.at(i) % names_.names.size(); }
  Tile tile(std::size_t index) const {
    const auto at = static_cast<int>(index);
    return {sheet_, at % names_.columns * names_.tile, at / names_.columns * names_.tile, names_.tile};
  }
  Page ground(Random& random) const {
    const double kind = random.unit();
    if (kind < 0.2) return Page(static_cast<std::size_t>(kSide) * kSide, {255, 255, 255, 1});
    if (kind < 0.3) return ramp(random, 60, false, false);  // dark
    if (kind < 0.5) return ramp(random, 255, false, false);
    if (kind < 0.65) return ramp(random, 255, true, false);
    if (kind < 0.75) return ramp(random, 255, true, true);
    if (kind < 0.9) return clouds(random, 2 + static_cast<int>(random.below(4)));
    Page page = ramp(random, 255, false, false);  // pieces of other drawings, washed out
    for (int i = 0; i < 2; ++i) {
      const Tile other = tile(random.below(names_.names.size()));
      put(page, other, random.between(0, kSide), random.between(0, kSide), random.between(235, 640),
          random.between(0, 2 * std::numbers::pi));
    }
    const Colour wash = random_colour(random);
    const double part = random.between(0.3, 0.6);
    for (Colour& colour : page) colour = colour * (1 - part) + wash * part;
    return page;
  }

  hub::DemoNames names_;
  image::Drawing sheet_;
  std::uint64_t seed_;
  std::vector<std::string> labels_;
  std::vector<std::vector<std::size_t>> accepted_;  // by drawing
  std::vector<std::size_t> chosen_;                 // drawing + its look, counted in rounds of all drawings
};

}  // namespace

std::unique_ptr<Pictures> open_emoji(const PicturesOptions& options) {
  return std::make_unique<EmojiPictures>(options);
}

}  // namespace tandem::samples
