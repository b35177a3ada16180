// Where the load goes: http://HOST[:PORT][/PATH].
#pragma once

#include <string>
#include <string_view>

namespace tandem::loadtest {

struct Url {
  std::string host;         ///< a name or a numeric address, without brackets
  std::string port = "80";  ///< decimal
  std::string path;         ///< with its query; empty where the URL has none or only "/"
  std::string authority;    ///< for the Host header
};

/// Throws invalid_argument for what is no such URL, unsupported for https.
Url parse_url(std::string_view text);

}  // namespace tandem::loadtest
