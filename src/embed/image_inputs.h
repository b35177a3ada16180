// Pictures named on the command line: files, folders, patterns, and a list on standard input.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "embed/item.h"
#include "embed/line_reader.h"

namespace tandem::embed {

/// .jpg .jpeg .png .webp .bmp .gif, in any case.
bool has_image_extension(std::string_view path);

/// What lies below a folder.
struct Listing {
  std::vector<std::string> pictures;                            ///< by extension, sorted by path as bytes
  std::vector<std::pair<std::string, std::string>> unreadable;  ///< folders, each with the reason; sorted alike
};

/// Every folder is read once, whatever links lead to it (to a folder above, or to one another): by its own path where
/// it lies below, else by the first of the links in the order of their paths. So a listing is never longer than what is
/// on the disk.
Listing list_pictures(const std::string& folder);

/// The same as items. A subfolder that cannot be read, and a folder without pictures, is an item with its error.
std::vector<Item> list_folder(const std::string& folder);

/// Arguments in their order. A path that exists is a file (any extension) or a folder; otherwise it may be a pattern
/// with *, ?, [ ] or {,}, whose matches are treated alike; "-" is a list of paths on standard input, a path a line,
/// read as it is needed. What does not exist is an item with the error not_found.
class ImageInputs : public ItemSource {
 public:
  explicit ImageInputs(const std::vector<std::string>& arguments, StopFlag stop = nullptr);

  bool next(Item& item) override;
  std::optional<std::size_t> total() const override;

 private:
  std::vector<Item> items_;  // expanded arguments; a "-" is a place in this list
  std::size_t at_ = 0;
  std::optional<std::size_t> stdin_place_;
  std::unique_ptr<LineReader> stdin_;
  std::vector<Item> listed_;  // what the last line of the list expanded to
  std::size_t listed_at_ = 0;
  StopFlag stop_;
};

}  // namespace tandem::embed
