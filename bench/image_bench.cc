// Decodes and fits each file of the command line, one after the other on this thread, and says how long a pass took.
//
//   tandem_image_bench RUNS hf|openai|hf-fast SIDE [--isa scalar|avx2|avx512] [--split] [--write OUT] FILE…
//
// One line per pass on stdout: the mean milliseconds of processor time per picture (--split: whole decode and fit
// apart). It waits for a line on stdin before each pass, so that a driver can take turns with a peer. --write stores
// the last crops, one after the other, for the driver to compare.
#include <cstring>
#include <ctime>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include "image/decoder.h"
#include "tandem/error.h"

using namespace tandem::image;

namespace {

/// Processor time of this process in milliseconds: a busy machine does not disturb it as it does a wall clock.
double now() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) * 1e-6;
}

int run(const std::vector<std::string>& words) {
  if (words.size() < 4) {
    std::cerr << "usage: tandem_image_bench RUNS hf|openai|hf-fast SIDE [--isa I] [--split] [--write OUT] FILE...\n";
    return 2;
  }
  const int runs = std::stoi(words[0]), side = std::stoi(words[2]);
  FitOptions options;
  options.reference = words[1] == "hf" ? Reference::hf : words[1] == "openai" ? Reference::openai : Reference::hf_fast;
  options.resize_height = options.resize_width = options.crop_height = options.crop_width = side;
  DecodeOptions stored;
  stored.exif = Exif::ignore;
  std::optional<Isa> isa;
  bool split = false;
  std::string write;
  std::vector<std::vector<std::byte>> files;
  for (std::size_t i = 3; i < words.size(); ++i) {
    if (words[i] == "--split") {
      split = true;
    } else if (words[i] == "--isa" && i + 1 < words.size()) {
      ++i;
      for (const Isa each : {Isa::scalar, Isa::avx2, Isa::avx512}) {
        if (isa_name(each) == words[i]) isa = each;
      }
    } else if (words[i] == "--write" && i + 1 < words.size()) {
      write = words[++i];
    } else {
      std::ifstream file(words[i], std::ios::binary);
      const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
      files.emplace_back(text.size());
      std::memcpy(files.back().data(), text.data(), text.size());
    }
  }
  const CpuDecoder decoder(isa);
  const std::size_t crop = 3 * static_cast<std::size_t>(side) * static_cast<std::size_t>(side);
  std::vector<std::uint8_t> out(crop * files.size());
  const auto count = static_cast<double>(files.size());
  std::cout << isa_name(decoder.isa()) << std::endl;
  std::string turn;
  for (int r = 0; r < runs && std::getline(std::cin, turn); ++r) {
    if (split) {
      double decoding = 0, fitting = 0;
      for (std::size_t i = 0; i < files.size(); ++i) {
        const double before = now();
        const Image image = decode(files[i], stored);
        decoding += now() - before;
        const double between = now();
        fit(image, options, std::span(out).subspan(i * crop, crop), decoder.isa());
        fitting += now() - between;
      }
      std::cout << decoding / count << " " << fitting / count << std::endl;
    } else {
      const double before = now();
      for (std::size_t i = 0; i < files.size(); ++i) {
        decoder.decode(EncodedImage{files[i]}, stored, options, std::span(out).subspan(i * crop, crop));
      }
      std::cout << (now() - before) / count << std::endl;
    }
  }
  if (!write.empty()) {
    std::ofstream(write, std::ios::binary)
        .write(reinterpret_cast<const char*>(out.data()), static_cast<std::streamsize>(out.size()));
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const std::exception& e) {
    std::cerr << e.what() << "\n";
    return 1;
  }
}
