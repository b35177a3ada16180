// The files of web/ inside the binary; assets.cc is written by embed_web.cmake when one of them changes.
#pragma once

#include <span>
#include <string_view>

namespace tandem::server {

struct Asset {
  std::string_view name;  ///< of the file in web/
  std::string_view content_type;
  std::string_view etag;  ///< with quotes, from the content
  std::string_view bytes;
};

std::span<const Asset> assets() noexcept;

}  // namespace tandem::server
