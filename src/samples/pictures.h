// Pictures to measure a model with: a folder, the emoji set, random ones; with what they show, where that is known.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tandem/engine.h"

namespace tandem::samples {

/// A list of pictures that are opened one by one. Thread-safe once made.
class Pictures {
 public:
  virtual ~Pictures() = default;
  virtual std::size_t size() const = 0;
  virtual std::string name(std::size_t i) const = 0;
  /// Throws what concerns this picture alone.
  virtual ImageInput open(std::size_t i) const = 0;
  /// Which of labels() are right for it: several where they cannot be told apart; none where nobody knows.
  virtual std::span<const std::size_t> accepted(std::size_t i) const = 0;
  /// What the pictures show, one text a class; empty where nobody knows.
  virtual const std::vector<std::string>& labels() const = 0;
};

struct PicturesOptions {
  std::size_t count = 0;  ///< at most so many, evenly from the whole; 0: all, or as many as kind of data has by itself
  std::uint64_t seed = 1;
  int side = 224;  ///< of random pictures, in pixels
  /// The classes that are meant, instead of those that the data names; a picture of another class then has none.
  std::vector<std::string> labels;
};

/// data: "emoji" (drawings of the bundled model's emoji on various grounds: 1,870 of them, then the same again in other
/// looks), "random" (noise in several sizes of grain; 64), a .tar of pictures (with a .txt beside one for what it
/// shows, as webdatasets have), or a folder of pictures. Beside these may stand labels.jsonl, a line a picture,
/// {"file", "label"} or {"file", "accepted": [line of names.txt, from 0]}, as tools/train_emoji/make_testset.py writes
/// it; otherwise the folders right inside are the classes, where every picture lies in one and there are two or more.
/// Throws not_found, bad_data, invalid_argument.
std::unique_ptr<Pictures> open_pictures(const std::string& data, const PicturesOptions& options);

/// What the parts of open_pictures() are made of.
std::unique_ptr<Pictures> open_emoji(const PicturesOptions& options);
std::unique_ptr<Pictures> open_folder(const std::string& folder, const PicturesOptions& options);
std::unique_ptr<Pictures> open_tar(const std::string& path, const PicturesOptions& options);
std::unique_ptr<Pictures> open_random(const PicturesOptions& options);

/// `count` numbers below `all`, evenly from the whole and in order; all of them for count 0 or where there are fewer.
std::vector<std::size_t> evenly(std::size_t all, std::size_t count);

/// Where a label stands in `labels`: itself, or with underscores for blanks; labels.size() where it does not.
std::size_t find_label(std::span<const std::string> labels, std::string_view label);

}  // namespace tandem::samples
