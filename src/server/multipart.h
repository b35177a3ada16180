// multipart/form-data bodies (RFC 7578).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tandem::server {

struct Part {
  std::string name;       ///< of the form field
  std::string_view data;  ///< into the body that was parsed
  bool file = false;      ///< the part has a file name, or says that it is a picture
};

/// Splits a body by the boundary that the Content-Type names. Throws bad_data for a missing boundary, a part without
/// a name, a missing end; too_large for more than max_parts parts.
std::vector<Part> parse_multipart(std::string_view body, std::string_view content_type, std::size_t max_parts);

}  // namespace tandem::server
