#include "loadtest/corpus.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
// libjpeg's header needs FILE to be declared before it.
#include <jpeglib.h>

#include "base/strings.h"
#include "loadtest/random.h"
#include "tandem/error.h"

namespace tandem::loadtest {
namespace {

namespace fs = std::filesystem;

constexpr std::array<const char*, 24> kWords = {
    "a",   "photo", "of",    "two", "dogs",  "running", "on",   "the",   "beach", "at",   "sunset", "red",
    "car", "in",    "front", "old", "house", "with",    "snow", "child", "holds", "blue", "bird",   "street"};

struct JpegErrors {
  jpeg_error_mgr manager;
  std::jmp_buf jump;
};

[[noreturn]] void leave(j_common_ptr info) {
  std::longjmp(reinterpret_cast<JpegErrors*>(info->err)->jump, 1);
}

// Plain C between setjmp and longjmp: nothing here has a destructor. Returns false when libjpeg found no memory.
bool encode(const unsigned char* rows, int width, int height, int quality, unsigned char** out, unsigned long* size) {
  jpeg_compress_struct c;
  JpegErrors errors;
  c.err = jpeg_std_error(&errors.manager);
  errors.manager.error_exit = leave;
  if (setjmp(errors.jump) != 0) {
    jpeg_destroy_compress(&c);
    return false;
  }
  jpeg_create_compress(&c);
  jpeg_mem_dest(&c, out, size);
  c.image_width = static_cast<JDIMENSION>(width);
  c.image_height = static_cast<JDIMENSION>(height);
  c.input_components = 3;
  c.in_color_space = JCS_RGB;
  jpeg_set_defaults(&c);
  jpeg_set_quality(&c, quality, TRUE);
  jpeg_start_compress(&c, TRUE);
  while (c.next_scanline < c.image_height) {
    auto* row = const_cast<unsigned char*>(rows + std::size_t{3} * c.next_scanline * c.image_width);
    jpeg_write_scanlines(&c, &row, 1);
  }
  jpeg_finish_compress(&c);
  jpeg_destroy_compress(&c);
  return true;
}

struct Blob {
  double x, y, radius;
  std::array<double, 3> colour;
};

// A gradient, soft and hard discs, and grain: compresses about as a photograph does (0.1 to 0.3 bytes a pixel).
std::string paint(int width, int height, std::uint64_t seed) {
  Random random(seed);
  std::array<double, 9> ramp;
  for (double& v : ramp) v = 256 * random.share();
  std::vector<Blob> blobs(6 + random.below(8));
  for (Blob& b : blobs) {
    b = {random.share(),
         random.share(),
         0.03 + 0.2 * random.share(),
         {256 * random.share() - 128, 256 * random.share() - 128, 256 * random.share() - 128}};
  }
  std::string pixels(std::size_t{3} * static_cast<std::size_t>(width) * static_cast<std::size_t>(height), '\0');
  char* at = pixels.data();
  for (int y = 0; y < height; ++y) {
    const double v = (y + 0.5) / height;
    for (int x = 0; x < width; ++x) {
      const double u = (x + 0.5) / width;
      std::array<double, 3> colour;
      for (std::size_t c = 0; c < 3; ++c)
        colour[c] = ramp[c] * (1 - u) * (1 - v) + ramp[c + 3] * u + ramp[c + 6] * v * 0.5;
      for (const Blob& b : blobs) {
        const double d = ((u - b.x) * (u - b.x) + (v - b.y) * (v - b.y)) / (b.radius * b.radius);
        if (d >= 1) continue;
        for (std::size_t c = 0; c < 3; ++c) colour[c] += b.colour[c] * (b.colour[0] > 0 ? 1 : 1 - d);
      }
      const double grain = static_cast<double>(random.next() >> 61) - 3.5;
      for (const double c : colour) *at++ = static_cast<char>(static_cast<int>(std::clamp(c + grain, 0.0, 255.0)));
    }
  }
  return pixels;
}

std::string type_of(const fs::path& path) {
  std::string name = path.extension().string();
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (name == ".jpg" || name == ".jpeg") return "jpeg";
  for (const char* type : {"png", "webp", "gif", "bmp"}) {
    if (name == cat(".", type)) return type;
  }
  return {};
}

}  // namespace

std::string make_jpeg(int width, int height, int quality, std::uint64_t seed) {
  const std::string pixels = paint(width, height, seed);
  unsigned char* out = nullptr;
  unsigned long size = 0;
  const bool made = encode(reinterpret_cast<const unsigned char*>(pixels.data()), width, height, quality, &out, &size);
  std::string bytes;
  if (made) bytes.assign(reinterpret_cast<const char*>(out), size);
  std::free(out);
  if (!made) throw Error(Code::out_of_memory, cat("no memory for a JPEG of ", width, " x ", height, " pixels"));
  return bytes;
}

std::vector<Picture> make_pictures(const CorpusOptions& options) {
  Random random(options.seed);
  std::vector<Picture> pictures;
  for (int i = 0; i < options.pictures; ++i) {
    // Widths with even logarithms, usual shapes.
    constexpr std::array<double, 5> kShapes = {0.5625, 0.6667, 0.75, 1, 1.3333};
    int width = static_cast<int>(64 * std::exp2(5 * random.share()));
    int height = std::clamp(static_cast<int>(width * kShapes[random.below(kShapes.size())]), 48, 2048);
    if (options.width > 0) width = options.width;
    if (options.height > 0) height = options.height;
    const int quality = 75 + static_cast<int>(random.below(21));
    pictures.push_back({make_jpeg(width, height, quality, random.next()), "jpeg"});
  }
  return pictures;
}

std::vector<Picture> read_pictures(const std::string& folder, std::size_t most) {
  std::error_code error;
  std::vector<fs::path> paths;
  for (fs::recursive_directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (it->is_regular_file(error) && !type_of(it->path()).empty()) paths.push_back(it->path());
  }
  if (error)
    throw Error(Code::not_found, cat(folder, " cannot be listed (", error.message(), "): give --data a folder"));
  if (paths.empty()) {
    throw Error(Code::not_found,
                cat(folder, " holds no pictures: give --data a folder with .jpg, .png, .webp, .gif or .bmp files"));
  }
  std::sort(paths.begin(), paths.end());
  paths.resize(std::min(paths.size(), most));
  std::vector<Picture> pictures;
  for (const fs::path& path : paths) {
    std::ifstream file(path, std::ios::binary);
    std::string bytes{std::istreambuf_iterator<char>(file), {}};
    if (!file) throw Error(Code::io_error, cat(path.string(), " cannot be read"));
    pictures.push_back({std::move(bytes), type_of(path)});
  }
  return pictures;
}

std::vector<Picture> corrupt(const Picture& picture, std::uint64_t seed) {
  Random random(seed);
  std::string noise(std::max<std::size_t>(picture.bytes.size(), 64), '\0');
  for (char& c : noise) c = static_cast<char>(random.next() >> 56);
  noise[0] = 'x';  // no picture begins with it
  std::vector<Picture> broken = {
      {picture.bytes.substr(0, std::min<std::size_t>(picture.bytes.size(), 40)), picture.type},
      {noise, picture.type},
      {"this is a text, not a picture", picture.type},
      {"", picture.type}};
  // The first frame of a GIF may be whole in its first half.
  if (picture.type != "gif") broken.push_back({picture.bytes.substr(0, picture.bytes.size() / 2), picture.type});
  return broken;
}

std::vector<std::string> make_texts(std::size_t count, std::uint64_t seed) {
  Random random(seed);
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < count; ++i) {
    std::string text;
    for (std::size_t words = 3 + random.below(18); words > 0; --words) {
      text += cat(text.empty() ? "" : " ", kWords[random.below(kWords.size())]);
    }
    texts.push_back(std::move(text));
  }
  return texts;
}

std::string make_pixels(int side, std::uint64_t seed) {
  return paint(side, side, seed);
}

}  // namespace tandem::loadtest
