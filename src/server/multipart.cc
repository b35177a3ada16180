#include "server/multipart.h"

#include <algorithm>
#include <cctype>

#include "base/strings.h"
#include "tandem/error.h"

namespace tandem::server {
namespace {

bool same_letters(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

/// The value of `name` in "form-data; name=\"a\"; filename=b"; found false when absent.
std::string parameter(std::string_view header, std::string_view name, bool& found) {
  found = false;
  std::size_t at = header.find(';');
  while (at != std::string_view::npos && at < header.size()) {
    ++at;
    const std::size_t equals = header.find('=', at);
    if (equals == std::string_view::npos) break;
    const std::string_view key = trimmed(header.substr(at, equals - at));
    std::string value;
    at = equals + 1;
    if (at < header.size() && header[at] == '"') {
      for (++at; at < header.size() && header[at] != '"'; ++at) {
        if (header[at] == '\\' && at + 1 < header.size()) ++at;
        value += header[at];
      }
      at = header.find(';', at);
    } else {
      const std::size_t end = std::min(header.find(';', at), header.size());
      value = trimmed(header.substr(at, end - at));
      at = end < header.size() ? end : std::string_view::npos;
    }
    if (same_letters(key, name)) {
      found = true;
      return value;
    }
  }
  return {};
}

}  // namespace

std::vector<Part> parse_multipart(std::string_view body, std::string_view content_type, std::size_t max_parts) {
  bool found = false;
  const std::string boundary = parameter(content_type, "boundary", found);
  if (!found || boundary.empty() || boundary.size() > 70) {
    throw Error(Code::bad_data, "multipart body: the Content-Type has no boundary of 1 to 70 characters");
  }
  const std::string delimiter = "\r\n--" + boundary;
  std::vector<Part> parts;
  // The first delimiter may stand at the very beginning, without the line break.
  std::size_t at =
      body.starts_with(std::string_view(delimiter).substr(2)) ? delimiter.size() - 2 : body.find(delimiter);
  if (at == std::string_view::npos) throw Error(Code::bad_data, "multipart body: its boundary does not occur in it");
  if (!body.starts_with(std::string_view(delimiter).substr(2))) at += delimiter.size();
  for (;;) {
    if (body.substr(at, 2) == "--") return parts;
    while (at < body.size() && (body[at] == ' ' || body[at] == '\t')) ++at;
    if (body.substr(at, 2) != "\r\n") throw Error(Code::bad_data, "multipart body: no line break after a boundary");
    if (parts.size() == max_parts) {
      throw Error(Code::too_large, cat("multipart body: more than ", max_parts, " parts"));
    }
    // `at` stays on the line break, so that a part without any header begins with the empty line.
    const std::size_t head_end = body.find("\r\n\r\n", at);
    const std::size_t end = body.find(delimiter, at);
    if (head_end == std::string_view::npos || end == std::string_view::npos || head_end > end) {
      throw Error(Code::bad_data, cat("multipart body: part ", parts.size(), " is cut off"));
    }
    Part part;
    bool named = false, picture = false;
    std::string_view head = body.substr(at, head_end - at);
    while (!head.empty()) {
      head.remove_prefix(std::min<std::size_t>(2, head.size()));
      const std::size_t line_end = std::min(head.find("\r\n"), head.size());
      const std::string_view line = head.substr(0, line_end);
      head.remove_prefix(line_end);
      const std::size_t colon = line.find(':');
      if (colon == std::string_view::npos) continue;
      const std::string_view name = trimmed(line.substr(0, colon)), value = trimmed(line.substr(colon + 1));
      if (same_letters(name, "content-type")) {
        picture = same_letters(value.substr(0, 6), "image/");
      }
      if (!same_letters(name, "content-disposition")) continue;
      bool wide = false;
      part.name = parameter(value, "name", named);
      parameter(value, "filename", part.file);
      parameter(value, "filename*", wide);
      part.file = part.file || wide;
    }
    part.file = part.file || picture;
    if (!named) throw Error(Code::bad_data, cat("multipart body: part ", parts.size(), " has no name"));
    const std::size_t data = std::min(head_end + 4, end);
    part.data = body.substr(data, end - data);
    parts.push_back(std::move(part));
    at = end + delimiter.size();
  }
}

}  // namespace tandem::server
