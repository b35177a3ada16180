// Pictures inside a tar file, as webdataset stores them: "000.jpg" and beside it "000.txt" with what it shows.
#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <string_view>

#include "base/mapped_file.h"
#include "base/strings.h"
#include "embed/image_inputs.h"
#include "samples/pictures.h"

namespace tandem::samples {
namespace {

constexpr std::size_t kBlock = 512;         // headers and contents begin at multiples of it
constexpr std::size_t kMostCaption = 4096;  // bytes that are read of a .txt
constexpr std::size_t kMostName = std::size_t{1} << 16;
constexpr std::size_t kMostPicture = std::size_t{256} << 20;

struct Member {
  std::string name;
  std::string_view bytes;
};

/// A field of a header, up to its first zero byte.
std::string_view field(std::string_view header, std::size_t at, std::size_t length) {
  const std::string_view all = header.substr(at, length);
  return all.substr(0, all.find('\0'));
}

/// An octal number, or, with the highest bit set, a binary one; none where it is neither.
std::optional<std::uint64_t> number(std::string_view header, std::size_t at, std::size_t length) {
  const std::string_view all = header.substr(at, length);
  std::uint64_t value = 0;
  if ((static_cast<unsigned char>(all[0]) & 0x80U) != 0) {
    for (const char c : all.substr(length - 8)) value = value << 8U | static_cast<unsigned char>(c);
    return value;
  }
  bool any = false;
  for (const char c : all) {
    if (c >= '0' && c <= '7') {
      value = value * 8 + static_cast<std::uint64_t>(c - '0'), any = true;
    } else if (c == '\0' || c == ' ') {
      if (any) break;
    } else {
      return std::nullopt;
    }
  }
  return value;
}

bool right_sum(std::string_view header) {
  std::uint64_t sum = 0;  // of all bytes, those of the sum itself taken as blanks
  for (std::size_t i = 0; i < kBlock; ++i) {
    sum += i >= 148 && i < 156 ? std::uint64_t{' '} : std::uint64_t{static_cast<unsigned char>(header[i])};
  }
  return number(header, 148, 8) == sum;
}

/// The path that a pax header gives the next member: lines "LENGTH path=NAME\n".
std::string pax_path(std::string_view text) {
  constexpr std::string_view kKey = " path=";
  const auto at = text.find(kKey);
  if (at == std::string_view::npos) return {};
  const std::string_view rest = text.substr(at + kKey.size());
  return std::string(rest.substr(0, rest.find('\n')));
}

/// Regular files of a tar (POSIX.1-1988 ustar, with the long names of pax and GNU), in its order.
std::vector<Member> members(const std::string& path, std::string_view all) {
  const auto damaged = [&](std::size_t at, const char* what) {
    return Error(Code::bad_data, cat(path, " at byte ", at, ": ", what, ": this is no tar file, or it was cut short"));
  };
  std::vector<Member> out;
  std::string long_name;
  for (std::size_t at = 0; at < all.size();) {
    if (all.size() - at < kBlock) throw damaged(at, "half a header");
    const std::string_view header = all.substr(at, kBlock);
    if (header.find_first_not_of('\0') == std::string_view::npos) break;  // the end
    const auto size = number(header, 124, 12);
    if (!right_sum(header) || !size) throw damaged(at, "a header's sum is wrong");
    if (*size > all.size() - at - kBlock) throw damaged(at, "a file is longer than the rest");
    const std::string_view bytes = all.substr(at + kBlock, static_cast<std::size_t>(*size));
    const char kind = header[156];
    if (kind == 'L' || kind == 'x') {
      if (bytes.size() > kMostName) throw damaged(at, "a name is too long");
      long_name = kind == 'x' ? pax_path(bytes) : std::string(bytes.substr(0, bytes.find('\0')));
    } else {
      if (kind == '0' || kind == '\0') {
        std::string name = long_name;
        if (name.empty()) {
          const auto folder = header.substr(257, 5) == "ustar" ? field(header, 345, 155) : std::string_view();
          name = cat(folder, folder.empty() ? "" : "/", field(header, 0, 100));
        }
        out.push_back({std::move(name), bytes});
      }
      long_name.clear();
    }
    at += kBlock + std::min(all.size() - at - kBlock, (bytes.size() + kBlock - 1) / kBlock * kBlock);
  }
  return out;
}

/// "a/000.x.jpg" -> "a/000": webdataset's key, up to the first dot of the file's name.
std::string key_of(const std::string& name) {
  const auto slash = name.rfind('/');
  return name.substr(0, name.find('.', slash == std::string::npos ? 0 : slash));
}

class Tar final : public Pictures {
 public:
  Tar(const std::string& path, const PicturesOptions& options) : path_(path), file_(path) {
    const std::string_view all(reinterpret_cast<const char*>(file_.bytes().data()), file_.bytes().size());
    std::vector<Member> pictures;
    std::map<std::string, std::string> captions;
    for (Member& member : members(path, all)) {
      if (embed::has_image_extension(member.name)) {
        pictures.push_back(std::move(member));
      } else if (member.name.ends_with(".txt") && member.bytes.size() <= kMostCaption) {
        std::string text(member.bytes);
        text.erase(text.find_last_not_of(" \r\n\t") + 1);
        if (!text.empty()) captions[key_of(member.name)] = std::move(text);
      }
    }
    if (pictures.empty()) {
      throw Error(Code::not_found, cat(path, " holds no pictures: .jpg .jpeg .png .webp .bmp .gif are looked for"));
    }
    for (const std::size_t i : evenly(pictures.size(), options.count)) pictures_.push_back(pictures[i]);
    labels_ = options.labels;
    if (labels_.empty()) {
      for (const Member& picture : pictures_) {
        if (const auto found = captions.find(key_of(picture.name)); found != captions.end()) {
          labels_.push_back(found->second);
        }
      }
      std::sort(labels_.begin(), labels_.end());
      labels_.erase(std::unique(labels_.begin(), labels_.end()), labels_.end());
    }
    accepted_.resize(pictures_.size());
    for (std::size_t i = 0; i < pictures_.size(); ++i) {
      const auto found = captions.find(key_of(pictures_[i].name));
      if (found == captions.end()) continue;
      if (const std::size_t at = find_label(labels_, found->second); at < labels_.size()) accepted_[i].push_back(at);
    }
  }
  std::size_t size() const override { return pictures_.size(); }
  std::string name(std::size_t i) const override { return cat(path_, "/", pictures_.at(i).name); }
  ImageInput open(std::size_t i) const override {
    const std::string_view bytes = pictures_.at(i).bytes;
    if (bytes.size() > kMostPicture) {
      throw Error(Code::too_large, cat(name(i), " has ", bytes.size(), " bytes; at most ", kMostPicture, " are read"));
    }
    const auto* first = reinterpret_cast<const std::byte*>(bytes.data());
    return EncodedImage{std::make_shared<const std::vector<std::byte>>(first, first + bytes.size())};
  }
  std::span<const std::size_t> accepted(std::size_t i) const override { return accepted_.at(i); }
  const std::vector<std::string>& labels() const override { return labels_; }

 private:
  std::string path_;
  MappedFile file_;
  std::vector<Member> pictures_;  ///< their bytes are the file's
  std::vector<std::string> labels_;
  std::vector<std::vector<std::size_t>> accepted_;
};

}  // namespace

std::unique_ptr<Pictures> open_tar(const std::string& path, const PicturesOptions& options) {
  return std::make_unique<Tar>(path, options);
}

}  // namespace tandem::samples
