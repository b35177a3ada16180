#include "loadtest/answers.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/base64.h"
#include "base/strings.h"

namespace tandem::loadtest {
namespace {

// Counts vectors and checks each.
class Vectors {
 public:
  explicit Vectors(bool unit) : unit_(unit) {}

  void add(double squares, std::size_t width) {
    if (width == 0 || (count_ > 0 && width != width_)) {
      wrong(cat("vector ", count_, " has ", width, " numbers", count_ > 0 ? cat(", the one before ", width_) : ""));
    } else if (!std::isfinite(squares) || squares == 0) {
      wrong(cat("vector ", count_, squares == 0 ? " is all zeros" : " has a number that is not finite"));
    } else if (unit_ && std::abs(std::sqrt(squares) - 1) > 0.01) {
      wrong(cat("vector ", count_, " has length ", std::sqrt(squares), ", not 1"));
    }
    width_ = width;
    ++count_;
  }

  void floats(std::string_view bytes) {
    double squares = 0;
    for (std::size_t i = 0; i + 4 <= bytes.size(); i += 4) {
      float value;
      std::memcpy(&value, bytes.data() + i, sizeof value);
      squares += static_cast<double>(value) * static_cast<double>(value);
    }
    add(squares, bytes.size() % 4 == 0 ? bytes.size() / 4 : 0);
  }

  void wrong(std::string what) {
    if (problem_.empty()) problem_ = std::move(what);
  }

  std::string end(int items) {
    if (count_ != items) return cat("the answer holds ", count_, " vectors, not ", items);
    return problem_;
  }

 private:
  const bool unit_;
  int count_ = 0;
  std::size_t width_ = 0;
  std::string problem_;
};

void read_json(std::string_view body, Vectors& vectors) {
  constexpr std::string_view kField = "\"embedding\"";
  std::string bytes;
  for (std::size_t at = body.find(kField); at != std::string_view::npos; at = body.find(kField, at + kField.size())) {
    std::string_view rest = body.substr(at + kField.size());
    const auto skip = [&] { rest.remove_prefix(std::min(rest.find_first_not_of(" \t\r\n"), rest.size())); };
    skip();
    if (!rest.starts_with(':')) continue;  // the value of "object"
    rest.remove_prefix(1);
    skip();
    if (rest.starts_with('"')) {
      const std::string_view text = rest.substr(1, rest.find('"', 1) - 1);
      if (!decode_strict_base64(text, bytes)) vectors.wrong("an embedding is no base64");
      vectors.floats(bytes);
    } else if (rest.starts_with('[')) {
      double squares = 0;
      std::size_t width = 0;
      while (!rest.empty() && rest.front() != ']') {
        rest.remove_prefix(1);  // the bracket or the comma
        skip();
        double value = std::nan("");
        const auto [stop, error] = std::from_chars(rest.data(), rest.data() + rest.size(), value);
        if (error != std::errc{}) {
          squares = std::nan("");
          break;
        }
        rest.remove_prefix(static_cast<std::size_t>(stop - rest.data()));
        skip();
        squares += value * value;
        ++width;
      }
      vectors.add(rest.empty() ? std::nan("") : squares, width);
    } else {
      vectors.wrong("an embedding is neither base64 nor numbers");
    }
  }
}

void read_npy(std::string_view body, int items, Vectors& vectors) {
  if (!body.starts_with("\x93NUMPY") || body.size() < 10) return vectors.wrong("the answer is no .npy");
  const auto byte = [&](std::size_t i) { return static_cast<std::size_t>(static_cast<unsigned char>(body[i])); };
  const std::size_t head = 10 + byte(8) + (byte(9) << 8);
  if (head > body.size() || body.substr(0, head).find("'<f4'") == std::string_view::npos)
    return vectors.wrong("the answer is no .npy of float32");
  body.remove_prefix(head);
  const auto rows = static_cast<std::size_t>(items);
  if (body.empty() || body.size() % (4 * rows) != 0) return vectors.wrong(cat("the .npy has ", body.size(), " bytes"));
  for (std::size_t i = 0; i < rows; ++i) vectors.floats(body.substr(i * body.size() / rows, body.size() / rows));
}

}  // namespace

std::string check_vectors(std::string_view content_type, std::string_view body, int items, bool unit) {
  Vectors vectors(unit);
  if (content_type.starts_with("application/x-npy")) {
    read_npy(body, items, vectors);
  } else {
    read_json(body, vectors);
  }
  return vectors.end(items);
}

}  // namespace tandem::loadtest
