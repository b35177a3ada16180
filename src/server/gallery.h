// The pictures that POST /search looks through.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <shared_mutex>
#include <span>
#include <string>
#include <vector>

#include "search/exact_index.h"
#include "tandem/engine.h"

namespace tandem::server {

/// A folder's pictures, listed once, with their vectors as they become known. Thread-safe. Pictures are named by
/// their number in the list, never by a path that a client sends.
class Gallery {
 public:
  struct Hit {
    std::size_t id = 0;
    float score = 0;
  };

  /// Lists the pictures below `folder` as embed::list_pictures() does, at most `most` of them. A folder that cannot be
  /// read throws not_found.
  Gallery(const std::filesystem::path& folder, std::size_t most);

  std::size_t size() const noexcept { return paths_.size(); }
  /// Pictures of the folder beyond the limit, which are left out.
  std::size_t left_out() const noexcept { return left_out_; }
  const std::filesystem::path& path(std::size_t id) const { return paths_.at(id); }
  /// The file's name without its extension, underscores as spaces.
  std::string name(std::size_t id) const;

  /// A picture's vector, or none because it could not be read; each id once, in any order.
  void add(std::size_t id, std::span<const float> vector);
  void add_failed(std::size_t id);
  std::size_t done() const;
  std::size_t failed() const;

  /// The pictures nearest to a unit vector among those that are done, best first.
  std::vector<Hit> search(std::span<const float> query, std::size_t top) const;

  /// Of a picture's file; 0 for an unknown id or a file that has gone.
  std::size_t file_size(std::size_t id) const noexcept;
  /// A picture's bytes and media type; throws not_found for an unknown id or a file that has gone, unsupported for a
  /// file that is no picture after all.
  std::pair<std::string, std::string> read(std::size_t id) const;

 private:
  std::vector<std::filesystem::path> paths_;
  std::size_t left_out_ = 0;
  mutable std::shared_mutex mutex_;
  std::optional<search::ExactIndex> index_;  ///< made with the first vector
  std::vector<std::size_t> ids_;             ///< of the index's rows
  std::size_t failed_ = 0;
};

}  // namespace tandem::server
