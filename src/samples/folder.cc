// A folder of pictures, with labels.jsonl or folders as classes.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "embed/image_inputs.h"
#include "embed/line_reader.h"
#include "samples/pictures.h"

namespace tandem::samples {
namespace {

namespace fs = std::filesystem;
using Accepted = std::vector<std::size_t>;

std::vector<std::string> lines_of(const fs::path& path) {
  embed::LineReader reader(path.string());
  std::vector<std::string> lines;
  for (std::string_view line; reader.next(line);) lines.emplace_back(line);
  return lines;
}

/// What labels.jsonl says of one picture: texts that are right.
using Said = std::map<std::string, std::vector<std::string>>;

Said read_labels(const fs::path& folder) {
  const fs::path path = folder / "labels.jsonl";
  std::vector<std::string> names;
  if (fs::exists(folder / "names.txt")) names = lines_of(folder / "names.txt");
  Said said;
  std::size_t number = 0;
  for (const std::string& line : lines_of(path)) {
    ++number;
    if (line.empty()) continue;
    try {
      const auto entry = nlohmann::json::parse(line);
      auto& right = said[(folder / entry.at("file").get<std::string>()).lexically_normal().string()];
      if (!names.empty() && entry.contains("accepted")) {
        for (const std::size_t index : entry.at("accepted").get<Accepted>()) right.push_back(names.at(index));
      } else {
        right.push_back(entry.at("label").get<std::string>());
      }
    } catch (const nlohmann::json::exception&) {
      throw Error(Code::bad_data, cat(path.string(), " line ", number,
                                      " must be an object with \"file\" and \"label\" or \"accepted\""));
    } catch (const std::out_of_range&) {
      throw Error(Code::bad_data, cat(path.string(), " line ", number,
                                      " accepts a line that names.txt does not have: ", "it has ", names.size()));
    }
  }
  return said;
}

/// The folder right inside `root` that a picture lies in; empty where it lies in `root` itself.
std::string class_of(const fs::path& root, const std::string& picture) {
  const fs::path below = fs::path(picture).lexically_relative(root);
  return std::next(below.begin()) == below.end() ? "" : below.begin()->string();
}

class Folder final : public Pictures {
 public:
  Folder(const std::string& folder, const PicturesOptions& options) {
    if (!fs::is_directory(folder)) {
      throw Error(Code::not_found, cat("data '", folder, "' is no folder: give one of pictures, or emoji, or random"));
    }
    const auto listing = embed::list_pictures(folder);
    if (listing.pictures.empty()) {
      throw Error(Code::not_found, cat(folder, " holds no pictures: .jpg .jpeg .png .webp .bmp .gif are looked for"));
    }
    for (const std::size_t i : evenly(listing.pictures.size(), options.count)) paths_.push_back(listing.pictures[i]);
    Said said;
    const bool listed = fs::exists(fs::path(folder) / "labels.jsonl");
    if (listed) {
      said = read_labels(folder);
    } else {
      for (const std::string& path : listing.pictures) {
        std::string name = class_of(folder, path);
        std::replace(name.begin(), name.end(), '_', ' ');
        said[fs::path(path).lexically_normal().string()] = {std::move(name)};
      }
    }
    for (const auto& [path, right] : said) labels_.insert(labels_.end(), right.begin(), right.end());
    std::sort(labels_.begin(), labels_.end());
    labels_.erase(std::unique(labels_.begin(), labels_.end()), labels_.end());
    const bool classes = listed || (labels_.size() > 1 && !labels_.front().empty());
    if (!classes) labels_.clear();
    if (!options.labels.empty()) labels_ = options.labels;
    accepted_.resize(paths_.size());
    if (!classes) return;
    for (std::size_t i = 0; i < paths_.size(); ++i) {
      const auto found = said.find(fs::path(paths_[i]).lexically_normal().string());
      if (found == said.end()) continue;
      for (const std::string& label : found->second) {
        if (const std::size_t at = find_label(labels_, label); at < labels_.size()) accepted_[i].push_back(at);
      }
    }
  }
  std::size_t size() const override { return paths_.size(); }
  std::string name(std::size_t i) const override { return paths_.at(i); }
  ImageInput open(std::size_t i) const override { return read_image(paths_.at(i)); }
  std::span<const std::size_t> accepted(std::size_t i) const override { return accepted_.at(i); }
  const std::vector<std::string>& labels() const override { return labels_; }

 private:
  std::vector<std::string> paths_, labels_;
  std::vector<Accepted> accepted_;
};

}  // namespace

std::unique_ptr<Pictures> open_folder(const std::string& folder, const PicturesOptions& options) {
  return std::make_unique<Folder>(folder, options);
}

}  // namespace tandem::samples
