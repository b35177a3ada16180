#include "server/gallery.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <fstream>
#include <mutex>
#include <nlohmann/json.hpp>

#include "base/strings.h"

namespace tandem::server {
namespace {

namespace fs = std::filesystem;

constexpr std::uintmax_t kMaxFileBytes = std::uintmax_t{64} << 20;

bool is_picture(const fs::path& path) {
  std::string end = path.extension().string();
  std::transform(end.begin(), end.end(), end.begin(), [](unsigned char c) { return std::tolower(c); });
  constexpr std::array kEnds = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"};
  return std::find(kEnds.begin(), kEnds.end(), end) != kEnds.end();
}

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
  std::error_code error;
  fs::recursive_directory_iterator at(folder, fs::directory_options::skip_permission_denied, error);
  if (error) {
    throw Error(Code::not_found,
                cat("gallery ", folder.string(), ": ", error.message(), "; name a folder of pictures"));
  }
  for (; at != fs::recursive_directory_iterator(); at.increment(error)) {
    if (error) break;
    std::error_code ignored;
    if (at->is_regular_file(ignored) && is_picture(at->path())) paths_.push_back(at->path());
  }
  std::sort(paths_.begin(), paths_.end());
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

DemoNames read_demo_names(const fs::path& folder) {
  const fs::path path = folder / "names.json";
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error(Code::not_found, cat(path.string(), " is missing: it holds the demo model's labels"));
  DemoNames demo;
  try {
    const nlohmann::json about = nlohmann::json::parse(file);
    for (const auto& entry : about.at("emoji")) {
      demo.names.push_back(entry.at("name"));
      demo.signs.push_back(entry.value("emoji", ""));
    }
  } catch (const nlohmann::json::exception& error) {
    throw Error(Code::bad_data, cat(path.string(), ": ", error.what()));
  }
  return demo;
}

}  // namespace tandem::server
