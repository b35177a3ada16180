// Times base64 by every instruction set of this processor: the C++ half of bench/base64_bench.py.
//
//   tandem_base64_bench BYTES REPEATS
//
// For each turn (a line on stdin) and each kernel one line on stdout: its name, and the best nanoseconds of processor
// time, on this thread, of decode(), of decode() where every 76 characters stand on a line of their own, and of
// append() to an empty string; of so many bytes.
#include <algorithm>
#include <ctime>
#include <iostream>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/base64_kernels.h"

namespace {

double now() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
}

/// Nanoseconds of one call, of the best of `repeats` moments; a moment is long enough for the clock.
template <class Call>
double best_of(int repeats, std::size_t bytes, const Call& call) {
  const std::size_t calls = 1 + 1'000'000 / (bytes + 100);
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < repeats; ++i) {
    const double before = now();
    for (std::size_t k = 0; k < calls; ++k) call();
    best = std::min(best, (now() - before) / static_cast<double>(calls));
  }
  return best;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 3) {
    std::cerr << "usage: tandem_base64_bench BYTES REPEATS\n";
    return 2;
  }
  std::vector<std::byte> bytes(std::stoul(argv[1]));
  const int repeats = std::stoi(argv[2]);
  std::mt19937 random(1);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  std::string turn;
  while (std::getline(std::cin, turn)) {
    for (const auto& kernels : tandem::base64::available()) {
      std::string code, lines;
      append(kernels, bytes, code);
      for (std::size_t i = 0; i < code.size(); i += 76) lines += code.substr(i, 76) + "\r\n";
      const auto decoding = [&](std::string_view text) {
        return best_of(repeats, bytes.size(), [&] {
          if (decode(kernels, text).size() != bytes.size()) throw std::length_error("wrong length");
        });
      };
      const double one = decoding(code), broken = decoding(lines);
      const double encoding = best_of(repeats, bytes.size(), [&] {
        std::string out;
        append(kernels, bytes, out);
        if (out.size() != code.size()) throw std::length_error("wrong length");
      });
      std::cout << kernels.name << ' ' << one << ' ' << broken << ' ' << encoding << std::endl;
    }
  }
  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
