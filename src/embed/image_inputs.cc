#include "embed/image_inputs.h"

#include <dirent.h>
#include <glob.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <set>

#include "base/strings.h"
#include "tandem/error.h"

namespace tandem::embed {
namespace {

Item image_item(std::string path) {
  return {Kind::image, std::move(path), std::nullopt};
}

Item failed_item(std::string path, Code code, std::string message) {
  return {Kind::image, std::move(path), ItemError{code, std::move(message)}};
}

class Walk {
 public:
  explicit Walk(Listing& found) : found_(found) {}

  void run(const std::string& folder) {
    // Links last: a folder keeps its own path, and what a link leads to may have been read by then.
    std::vector<std::string> links{folder};
    while (!links.empty()) {
      std::sort(links.begin(), links.end());
      folders_ = std::exchange(links, {});
      std::reverse(folders_.begin(), folders_.end());
      while (!folders_.empty()) {
        const std::string next = std::move(folders_.back());
        folders_.pop_back();
        read(next, links);
      }
    }
  }

 private:
  // Pictures are found; folders and links to folders wait for their turn.
  void read(const std::string& folder, std::vector<std::string>& links) {
    struct stat info {};
    DIR* open = ::stat(folder.c_str(), &info) == 0 ? ::opendir(folder.c_str()) : nullptr;
    if (open == nullptr) {
      found_.unreadable.emplace_back(folder, cat("cannot read folder ", folder, ": ", std::strerror(errno)));
      return;
    }
    if (seen_.emplace(info.st_dev, info.st_ino).second) {
      for (const dirent* entry = ::readdir(open); entry != nullptr; entry = ::readdir(open)) {
        const std::string_view name = entry->d_name;
        if (name != "." && name != "..") take(cat(folder, folder.ends_with('/') ? "" : "/", name), *entry, links);
      }
    }
    ::closedir(open);
  }

  void take(std::string path, const dirent& entry, std::vector<std::string>& links) {
    bool is_link = entry.d_type == DT_LNK, is_folder = entry.d_type == DT_DIR;
    struct stat info {};
    // File systems that do not say what an entry is.
    if (entry.d_type == DT_UNKNOWN && ::lstat(path.c_str(), &info) == 0) is_link = S_ISLNK(info.st_mode);
    if (is_link || entry.d_type == DT_UNKNOWN) {
      is_folder = ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
    }
    if (is_folder) {
      (is_link ? links : folders_).push_back(std::move(path));
    } else if (has_image_extension(entry.d_name)) {
      found_.pictures.push_back(std::move(path));
    }
  }

  Listing& found_;
  std::vector<std::string> folders_;  // to be read, the next one last
  std::set<std::pair<dev_t, ino_t>> seen_;
};

void expand_path(const std::string& path, std::vector<Item>& found) {
  struct stat info {};
  if (path.find('\0') != std::string::npos) {
    found.push_back(failed_item(path, Code::invalid_argument, "a path with a zero byte in it names no file"));
    return;
  }
  if (::stat(path.c_str(), &info) != 0) {
    const int e = errno;
    found.push_back(failed_item(path, e == ENOENT || e == ENOTDIR ? Code::not_found : Code::io_error,
                                cat("cannot open ", path, ": ", std::strerror(e))));
  } else if (S_ISDIR(info.st_mode)) {
    auto listed = list_folder(path);
    std::move(listed.begin(), listed.end(), std::back_inserter(found));
  } else {
    found.push_back(image_item(path));
  }
}

void expand_argument(const std::string& argument, std::vector<Item>& found) {
  struct stat info {};
  const bool pattern = argument.find_first_of("*?[{") != std::string::npos;
  if (!pattern || ::lstat(argument.c_str(), &info) == 0) {
    expand_path(argument, found);
    return;
  }
  glob_t matches{};
  const int outcome = ::glob(argument.c_str(), GLOB_BRACE, nullptr, &matches);
  std::vector<std::string> paths;
  if (outcome == 0) paths.assign(matches.gl_pathv, matches.gl_pathv + matches.gl_pathc);
  ::globfree(&matches);
  // With braces that match nothing, glob gives the pattern's own parts back.
  std::erase_if(paths, [](const std::string& path) {
    struct stat match {};
    return ::lstat(path.c_str(), &match) != 0;
  });
  if (paths.empty()) {
    found.push_back(failed_item(argument, Code::not_found, cat("nothing matches the pattern ", argument)));
  }
  for (const auto& path : paths) expand_path(path, found);
}

}  // namespace

bool has_image_extension(std::string_view path) {
  constexpr std::array<std::string_view, 6> kExtensions = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif"};
  return std::any_of(kExtensions.begin(), kExtensions.end(), [&](std::string_view extension) {
    if (path.size() <= extension.size()) return false;
    const auto end = path.substr(path.size() - extension.size());
    return std::equal(end.begin(), end.end(), extension.begin(), [](char a, char b) {
      return (a >= 'A' && a <= 'Z' ? static_cast<char>(a - 'A' + 'a') : a) == b;
    });
  });
}

Listing list_pictures(const std::string& folder) {
  Listing found;
  Walk(found).run(folder);
  std::sort(found.pictures.begin(), found.pictures.end());
  std::sort(found.unreadable.begin(), found.unreadable.end());
  return found;
}

std::vector<Item> list_folder(const std::string& folder) {
  Listing listing = list_pictures(folder);
  std::vector<Item> found;
  for (auto& path : listing.pictures) found.push_back(image_item(std::move(path)));
  for (auto& [path, why] : listing.unreadable) found.push_back(failed_item(path, Code::io_error, std::move(why)));
  std::sort(found.begin(), found.end(), [](const Item& a, const Item& b) { return a.input < b.input; });
  if (found.empty()) {
    found.push_back(
        failed_item(folder, Code::not_found,
                    cat("no pictures in folder ", folder, " (looked for .jpg .jpeg .png .webp .bmp .gif)")));
  }
  return found;
}

ImageInputs::ImageInputs(const std::vector<std::string>& arguments, StopFlag stop) : stop_(stop) {
  for (const auto& argument : arguments) {
    if (argument != "-") {
      expand_argument(argument, items_);
    } else if (stdin_place_) {
      throw Error(Code::invalid_argument, "standard input (-) was given twice as a list of pictures; name it once");
    } else {
      stdin_place_ = items_.size();
    }
  }
}

bool ImageInputs::next(Item& item) {
  if (stdin_place_ == at_) {
    if (!stdin_) stdin_ = std::make_unique<LineReader>("-", stop_);
    while (listed_at_ == listed_.size()) {
      std::string_view line;
      if (!stdin_->next(line)) {
        stdin_place_.reset();
        break;
      }
      listed_.clear();
      listed_at_ = 0;
      if (!line.empty()) expand_path(std::string(line), listed_);
    }
    if (listed_at_ < listed_.size()) {
      item = std::move(listed_[listed_at_++]);
      return true;
    }
  }
  if (at_ == items_.size()) return false;
  item = std::move(items_[at_++]);
  return true;
}

std::optional<std::size_t> ImageInputs::total() const {
  if (stdin_place_ || stdin_) return std::nullopt;
  return items_.size();
}

}  // namespace tandem::embed
