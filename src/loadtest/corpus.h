// What is sent: pictures and texts made from a seed, or the pictures of a folder.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tandem::loadtest {

struct CorpusOptions {
  std::string folder;         ///< pictures are taken from it, in path order; empty: made from the seed
  int pictures = 64;          ///< made, or at most taken
  int width = 0, height = 0;  ///< of the pictures that are made; 0: many sizes, 64 to 2,048 pixels wide
  int side = 224;             ///< of pictures that are sent as pixels
  std::uint64_t seed = 1;
};

/// A whole picture file.
struct Picture {
  std::string bytes;
  std::string type;  ///< "jpeg", "png", "webp", "gif", "bmp"
};

/// JPEGs of photograph-like content (gradients, shapes, grain), coded at qualities 75 to 95. The same for the same
/// seed.
std::vector<Picture> make_pictures(const CorpusOptions& options);

/// A JPEG of the given size. Throws out_of_memory.
std::string make_jpeg(int width, int height, int quality, std::uint64_t seed);

/// The pictures below a folder, by their extension, as they are. Throws not_found when there is none, io_error.
std::vector<Picture> read_pictures(const std::string& folder, std::size_t most);

/// Files that no decoder may accept, made of a picture: cut within its head, cut in the middle, noise of its size, a
/// text, an empty file.
std::vector<Picture> corrupt(const Picture& picture, std::uint64_t seed);

/// Captions of 3 to 20 words.
std::vector<std::string> make_texts(std::size_t count, std::uint64_t seed);

/// uint8 RGB pixels [side, side, 3].
std::string make_pixels(int side, std::uint64_t seed);

}  // namespace tandem::loadtest
