// Pictures that came as nested lists of numbers: taken out of the text before it is parsed as JSON, which would keep 20
// bytes for each number and as many for each comma.
#include <charconv>
#include <cmath>

#include "base/strings.h"
#include "server/dialects/bodies.h"
#include "server/message.h"

namespace tandem::server {
namespace {

bool is_blank(char c) noexcept {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

bool is_digit(char c) noexcept {
  return c >= '0' && c <= '9';
}

/// Reads [[[r,g,b],…],…] from `at` on.
class PixelReader {
 public:
  PixelReader(std::string_view json, std::size_t at, std::size_t picture) : json_(json), at_(at), picture_(picture) {}

  /// The picture; end() is behind its last bracket.
  HostPixels read() {
    auto pixels = std::make_shared<std::vector<std::uint8_t>>();
    std::size_t height = 0, width = 0;
    expect('[');
    do {
      std::size_t columns = 0;
      expect('[');
      do {
        expect('[');
        for (int channel = 0; channel < 3; ++channel) {
          if (channel > 0) expect(',');
          pixels->push_back(number());
        }
        expect(']');
        ++columns;
      } while (comma());
      expect(']');
      if (height == 0) width = columns;
      if (columns != width) {
        throw FieldError(
            Code::invalid_argument,
            cat("image: row ", height, " of picture ", picture_, " has ", columns, " pixels, the first has ", width),
            "image");
      }
      ++height;
    } while (comma());
    expect(']');
    if (height > kMostPixels || width > kMostPixels) {
      throw FieldError(Code::too_large, cat("image: ", height, " x ", width, " pixels"), "image");
    }
    HostPixels out;
    out.pixels = std::move(pixels);
    out.width = static_cast<int>(width);
    out.height = static_cast<int>(height);
    return out;
  }
  std::size_t end() const noexcept { return at_; }

 private:
  static constexpr std::size_t kMostPixels = 1u << 20;

  void skip() noexcept {
    while (at_ < json_.size() && is_blank(json_[at_])) ++at_;
  }
  void expect(char sign) {
    skip();
    if (at_ == json_.size() || json_[at_] != sign) {
      throw FieldError(Code::invalid_argument,
                       cat("image: picture ", picture_, " is no list of height x width x 3 numbers: \"", sign,
                           "\" was expected at byte ", at_, " of the body"),
                       "image");
    }
    ++at_;
  }
  bool comma() noexcept {
    skip();
    if (at_ == json_.size() || json_[at_] != ',') return false;
    ++at_;
    return true;
  }
  std::uint8_t number() {
    skip();
    // Nearly always one to three digits.
    std::size_t end = at_;
    unsigned whole = 0;
    while (end < json_.size() && json_[end] >= '0' && json_[end] <= '9' && end - at_ < 4) {
      whole = whole * 10 + static_cast<unsigned>(json_[end++] - '0');
    }
    const char next = end < json_.size() ? json_[end] : ',';
    const bool plain =
        end > at_ && (next == ',' || next == ']' || is_blank(next)) && (json_[at_] != '0' || end == at_ + 1);
    double value = whole;
    if (!plain) {
      const auto [stop, error] = std::from_chars(json_.data() + at_, json_.data() + json_.size(), value);
      end = static_cast<std::size_t>(stop - json_.data());
      // JSON has no 01, no .5, no 5. and no nan.
      const std::string_view text = json_.substr(at_, end - at_);
      const std::size_t dot = text.find('.');
      const bool digit_behind = dot == std::string_view::npos || (dot + 1 < text.size() && is_digit(text[dot + 1]));
      if (error != std::errc() || !is_digit(text[0]) || !digit_behind ||
          (text[0] == '0' && text.size() > 1 && is_digit(text[1]))) {
        value = -1;
      }
    }
    if (!(value >= 0 && value <= 255)) {
      throw FieldError(Code::invalid_argument,
                       cat("image: the value at byte ", at_, " of the body is no number from 0 to 255"), "image");
    }
    at_ = end;
    return static_cast<std::uint8_t>(std::lround(value));
  }

  std::string_view json_;
  std::size_t at_;
  std::size_t picture_;
};

}  // namespace

std::string lift_pixels(std::string_view json, std::vector<HostPixels>& pictures, const BodyLimits& limits) {
  std::string out;
  std::size_t at = 0, copied = 0;
  const auto copy_to = [&](std::size_t end) {
    out += json.substr(copied, end - copied);
    copied = end;
  };
  while (at < json.size()) {
    if (json[at] == '"') {  // strings are nobody's list
      for (++at; at < json.size() && json[at] != '"'; ++at) at += json[at] == '\\';
      ++at;
      continue;
    }
    if (json[at] != '[') {
      ++at;
      continue;
    }
    std::size_t brackets[3] = {at, at, at};  // the last three of a run
    std::size_t count = 0;
    for (; at < json.size() && (json[at] == '[' || is_blank(json[at])); ++at) {
      if (json[at] != '[') continue;
      brackets[0] = brackets[1];
      brackets[1] = brackets[2];
      brackets[2] = at;
      ++count;
    }
    const bool number = at < json.size() && ((json[at] >= '0' && json[at] <= '9') || json[at] == '-');
    if (count < 3 || !number) continue;
    if (pictures.size() == static_cast<std::size_t>(limits.max_items)) {
      throw FieldError(Code::too_large, cat("more than ", limits.max_items, " images in one request"), "image");
    }
    copy_to(brackets[0]);
    PixelReader reader(json, brackets[0], pictures.size());
    pictures.push_back(reader.read());
    at = copied = reader.end();
    out += cat("\"\\u0001", pictures.size() - 1, "\"");
  }
  copy_to(json.size());
  return out;
}

}  // namespace tandem::server
