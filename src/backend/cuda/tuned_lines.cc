#include "backend/cuda/tuned_lines.h"

#include <sstream>

#include "base/strings.h"

namespace tandem::backend::cuda {

std::string tuned_line(std::string_view name, std::size_t version, const ProductShape& shape, std::string_view word) {
  std::string out = cat(name, ' ', version);
  for (const std::int64_t n : shape) out += cat(' ', n);
  return out + cat(' ', word, '\n');
}

int take_tuned_lines(const std::string& text, std::string_view name, std::size_t version,
                     const std::function<bool(const ProductShape& shape, const std::string& word)>& take) {
  std::istringstream lines(text);
  int taken = 0;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string own_name, word;
    std::size_t own_version = 0;
    ProductShape shape{};
    words >> own_name >> own_version;
    for (std::int64_t& n : shape) words >> n;
    words >> word;
    if (words && own_name == name && own_version == version && take(shape, word)) ++taken;
  }
  return taken;
}

}  // namespace tandem::backend::cuda
