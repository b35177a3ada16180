#include "loadtest/url.h"

#include <algorithm>
#include <cctype>

#include "base/strings.h"
#include "tandem/error.h"

namespace tandem::loadtest {

Url parse_url(std::string_view text) {
  const auto refuse = [&](const char* why) {
    return Error(
        Code::invalid_argument,
        cat("'", text, "' ", why, ": give a URL such as http://127.0.0.1:7860 or http://127.0.0.1:7860/infer"));
  };
  if (text.starts_with("https://"))
    throw Error(Code::unsupported,
                cat("'", text, "': the load test speaks plain HTTP: give the server's http:// address"));
  constexpr std::string_view kScheme = "http://";
  if (!text.starts_with(kScheme)) throw refuse("does not begin with http://");
  const std::string_view rest = text.substr(kScheme.size());
  const std::size_t end = std::min(rest.find_first_of("/?#"), rest.size());
  Url url;
  url.authority = rest.substr(0, end);
  std::string_view path = rest.substr(end);
  path = path.substr(0, path.find('#'));
  if (path.starts_with('?')) throw refuse("has a query without a path");
  if (path != "/") url.path = path;
  const auto plain = [](unsigned char c) { return c > 32 && c < 127; };
  if (!std::all_of(rest.begin(), rest.end(), plain)) throw refuse("holds a blank or a character that is not ASCII");

  std::string_view host = url.authority, port;
  if (host.find('@') != std::string_view::npos) throw refuse("holds a user name; give it as --header instead");
  if (host.starts_with('[')) {
    const std::size_t close = host.find(']');
    if (close == std::string_view::npos) throw refuse("has a bracket that is not closed");
    port = host.substr(close + 1);
    host = host.substr(1, close - 1);
    if (!port.empty() && !port.starts_with(':')) throw refuse("has something between its address and its port");
  } else if (const std::size_t colon = host.find(':'); colon != std::string_view::npos) {
    port = host.substr(colon);
    host = host.substr(0, colon);
  }
  if (host.empty()) throw refuse("names no host");
  url.host = host;
  if (!port.empty()) {
    port.remove_prefix(1);
    const bool digits = std::all_of(port.begin(), port.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
    if (port.empty() || port.size() > 5 || !digits || std::stoi(std::string(port)) > 65535)
      throw refuse("has a port that is no number up to 65535");
    url.port = port;
  }
  return url;
}

}  // namespace tandem::loadtest
