#include "server/gallery.h"

#include <algorithm>
#include <fstream>
#include <mutex>

#include "base/strings.h"
#include "embed/image_inputs.h"

namespace tandem::server {
namespace {

namespace fs = std::filesystem;

constexpr std::uintmax_t kMaxFileBytes = std::uintmax_t{64} << 20;

/// By the first bytes, not the name: browsers are told not to guess.
std::string media_type(std::string_view bytes) {
  if (bytes.starts_with("\xff\xd8\xff")) return "image/jpeg";
  if (bytes.starts_with("\x89PNG\r\n\x1a\n")) return "image/png";
  if (bytes.starts_with("GIF8")) return "image/gif";
  if (bytes.starts_with("BM")) return "image/bmp";
  if (bytes.starts_with("RIFF") && bytes.substr(8, 4) == "WEBP") return "image/webp";
  return {};
}

}  // namespace

Gallery::Gallery(const fs::path& folder, std::size_t most) {
  const embed::Listing listing = embed::list_pictures(folder.string());
  if (!listing.unreadable.empty() && listing.unreadable.front().first == folder.string()) {
    throw Error(Code::not_found, cat("gallery: ", listing.unreadable.front().second, "; name a folder of pictures"));
  }
  paths_.assign(listing.pictures.begin(), listing.pictures.end());
  if (paths_.size() > most) {
    left_out_ = paths_.size() - most;
    paths_.resize(most);
  }
}

std::string Gallery::name(std::size_t id) const {
  std::string name = paths_.at(id).stem().string();
  std::replace(name.begin(), name.end(), '_', ' ');
  return name;
}

void Gallery::add(std::size_t id, std::span<const float> vector) {
  const std::unique_lock lock(mutex_);
  if (!index_) index_.emplace(vector.size());
  index_->add(vector);
  ids_.push_back(id);
}

void Gallery::add_failed(std::size_t) {
  const std::unique_lock lock(mutex_);
  ++failed_;
}

std::size_t Gallery::done() const {
  const std::shared_lock lock(mutex_);
  return ids_.size() + failed_;
}

std::size_t Gallery::failed() const {
  const std::shared_lock lock(mutex_);
  return failed_;
}

std::vector<Gallery::Hit> Gallery::search(std::span<const float> query, std::size_t top) const {
  const std::shared_lock lock(mutex_);
  std::vector<Hit> hits;
  if (!index_) return hits;
  for (const search::Hit& hit : index_->search(query, top)) hits.push_back({ids_[hit.row], hit.score});
  return hits;
}

std::size_t Gallery::file_size(std::size_t id) const noexcept {
  if (id >= paths_.size()) return 0;
  std::error_code error;
  const std::uintmax_t size = fs::file_size(paths_[id], error);
  return error ? 0 : static_cast<std::size_t>(size);
}

std::pair<std::string, std::string> Gallery::read(std::size_t id) const {
  if (id >= paths_.size()) {
    throw Error(Code::not_found, cat("no picture ", id, " in the gallery, which has ", paths_.size()));
  }
  std::error_code error;
  const std::uintmax_t size = fs::file_size(paths_[id], error);
  std::ifstream file(paths_[id], std::ios::binary);
  if (error || !file) throw Error(Code::not_found, cat("picture ", id, " of the gallery is no longer there"));
  if (size > kMaxFileBytes) throw Error(Code::too_large, cat("picture ", id, " has ", size, " bytes"));
  std::string bytes(static_cast<std::size_t>(size), '\0');
  file.read(bytes.data(), static_cast<std::streamsize>(size));
  bytes.resize(static_cast<std::size_t>(file.gcount()));
  std::string type = media_type(bytes);
  if (type.empty())
    throw Error(Code::unsupported, cat("picture ", id, " of the gallery is no picture that browsers show"));
  return {std::move(bytes), std::move(type)};
}

}  // namespace tandem::server
