#include "samples/pictures.h"

#include <algorithm>
#include <filesystem>

#include "base/strings.h"
#include "samples/random.h"

namespace tandem::samples {
namespace {

/// Noise whose grain is a pixel, or a square of several: the coarse ones give different vectors, the fine ones the
/// ranges of activations that are hardest to quantise.
class RandomPictures final : public Pictures {
 public:
  explicit RandomPictures(const PicturesOptions& o) : count_(o.count > 0 ? o.count : 64), seed_(o.seed), side_(o.side) {
    if (side_ < 1) throw Error(Code::invalid_argument, cat("pictures of ", side_, " pixels: give a side above 0"));
  }
  std::size_t size() const override { return count_; }
  std::string name(std::size_t i) const override { return cat("random:", i); }
  ImageInput open(std::size_t i) const override {
    Random random(seed_, i);
    const int grain = std::max(1, side_ >> (i % 6 + 1)), cells = (side_ + grain - 1) / grain;
    std::vector<std::uint8_t> cell(static_cast<std::size_t>(cells) * static_cast<std::size_t>(cells) * 3);
    for (auto& value : cell) value = static_cast<std::uint8_t>(random.next() >> 56);
    auto pixels = std::make_shared<std::vector<std::uint8_t>>();
    pixels->reserve(static_cast<std::size_t>(side_) * static_cast<std::size_t>(side_) * 3);
    for (int y = 0; y < side_; ++y) {
      for (int x = 0; x < side_; ++x) {
        const auto at = static_cast<std::size_t>(y / grain * cells + x / grain) * 3;
        pixels->insert(pixels->end(), cell.begin() + static_cast<std::ptrdiff_t>(at),
                       cell.begin() + static_cast<std::ptrdiff_t>(at + 3));
      }
    }
    return HostPixels{std::move(pixels), side_, side_};
  }
  std::span<const std::size_t> accepted(std::size_t) const override { return {}; }
  const std::vector<std::string>& labels() const override { return labels_; }

 private:
  std::size_t count_;
  std::uint64_t seed_;
  int side_;
  std::vector<std::string> labels_;
};

}  // namespace

std::vector<std::size_t> evenly(std::size_t all, std::size_t count) {
  if (count == 0 || count > all) count = all;
  std::vector<std::size_t> chosen(count);
  for (std::size_t i = 0; i < count; ++i) chosen[i] = i * all / count;
  return chosen;
}

std::size_t find_label(std::span<const std::string> labels, std::string_view label) {
  std::string blanks(label);
  std::replace(blanks.begin(), blanks.end(), '_', ' ');
  const auto same = [&](const std::string& known) { return known == label || known == blanks; };
  return static_cast<std::size_t>(std::find_if(labels.begin(), labels.end(), same) - labels.begin());
}

std::unique_ptr<Pictures> open_random(const PicturesOptions& options) {
  return std::make_unique<RandomPictures>(options);
}

std::unique_ptr<Pictures> open_pictures(const std::string& data, const PicturesOptions& options) {
  if (data == "emoji") return open_emoji(options);
  if (data == "random") return open_random(options);
  if (data.ends_with(".tar") && !std::filesystem::is_directory(data)) return open_tar(data, options);
  return open_folder(data, options);
}

}  // namespace tandem::samples
